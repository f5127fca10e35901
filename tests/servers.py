"""Real model servers for tests: started as processes, asked over sockets, ended with the test."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.waiting import until

JSON = {"Content-Type": "application/json"}


class ModelServer:
    """A server process.

    Args:
        folder: The model's folder; the log is written beside it.
        framework: Its framework.
        args: Further options.
        env: Further environment variables.
        name: The model's name.
        wait: Whether to wait until it is ready.
    """

    def __init__(
        self,
        folder: Path,
        framework: str,
        *args: str,
        env: dict[str, str] | None = None,
        name: str = "m",
        wait: bool = True,
    ) -> None:
        self.name = name
        self.log_path = folder.parent / f"{folder.name}-{os.urandom(4).hex()}.log"
        command = [sys.executable, "-m", "kaptain_magics.serving", "--model-name", name, "--folder", str(folder)]
        command += ["--framework", framework, "--port", "0", *args]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        if not wait:
            return
        try:
            found = until(lambda: self._find(r"listening on \S+:(\d+)"), 120, "listening")
            assert found is not None
            self.port = int(found[1])
            until(lambda: self._find("") and self.get("/v2/health/ready")[0] == 200, 120, "ready")
        except BaseException:
            self.kill()
            raise

    def _find(self, pattern: str) -> re.Match[str] | None:
        assert self.process.poll() is None, self.log
        return re.search(pattern, self.log)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def grpc_port(self) -> int:
        found = until(lambda: self._find(r"gRPC on \S+:(\d+)"), 60, "gRPC")
        assert found is not None
        return int(found[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/{self.name}/infer"

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        except ConnectionError:
            return 0, b"", {}
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, Any]:
        status, body, _ = self.request("GET", path)
        return status, json.loads(body) if body else None

    def infer(self, request: Any, path: str = "") -> tuple[int, Any]:
        status, body, _ = self.request(
            "POST", path or f"/v2/models/{self.name}/infer", json.dumps(request).encode(), JSON
        )
        return status, json.loads(body)

    def raw(self, data: bytes, timeout: float = 30.0) -> bytes:
        """Send bytes and return what comes until the server closes or ``timeout``."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            return drain(connection)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(90)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            code = self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert kind is not None or code == 0, self.log


def drain(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except (TimeoutError, ConnectionResetError):
        pass
    return received


def predictor(folder: Path, source: str) -> Path:
    """Write a plain Python predictor."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(source, encoding="utf-8")
    return folder


def tensor(name: str, datatype: str, shape: list[int], data: Any, **more: Any) -> dict[str, Any]:
    """Return a JSON tensor."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data, **more}


# The sum of every row: cheap, checkable, and batchable.
ADDER = """
batchable = True
def predict(inputs):
    (rows,) = inputs.values()
    return rows.reshape(len(rows), -1).sum(axis=1)
"""
# What it got.
ECHO = """
def predict(inputs):
    return inputs
"""

"""How fast a model is served, against the limit and against mlserver and kserve (see ``tests/peers.py``).

The limit is a bare ASGI application on uvicorn: JSON in, a direct ``predict``, JSON out, no protocol and no check.
``wrk`` makes the load where it is installed, else plain sockets do. Rounds alternate between the servers.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from tests.peers import find_peer
from tests.servers import JSON

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
ROUNDS = 3
SECONDS = 3
LIMIT = """
import sys, joblib, numpy as np, orjson, uvicorn
model = joblib.load(sys.argv[1])
async def app(scope, receive, send):
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    tensor = orjson.loads(body)["inputs"][0]
    rows = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    found = model.predict(rows)
    answer = orjson.dumps({"outputs": [{"data": found}]}, option=orjson.OPT_SERIALIZE_NUMPY)
    length = str(len(answer)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
uvicorn.run(app, port=int(sys.argv[2]), log_level="error", lifespan="off", access_log=False)
"""
KSERVE = """
import sys, joblib, numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer
class Digits(Model):
    def load(self):
        self.model = joblib.load(sys.argv[1])
        self.ready = True
    def predict(self, payload, headers=None, response_headers=None):
        found = self.model.predict(payload.inputs[0].as_numpy())
        output = InferOutput("predict", list(found.shape), "INT64", data=found.tolist())
        return InferResponse(payload.id or "1", "m", [output])
model = Digits("m")
model.load()
ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1, enable_docs_url=False).start([model])
"""
WARM = """
import os, sys, json
import joblib, sklearn.svm, kaptain_magics.serving.__main__ as server
print("warm", flush=True)
for line in sys.stdin:
    if os.fork() == 0:
        os.setsid()
        os._exit(server.main(json.loads(line)))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Candidate:
    """One kind of server."""

    def __init__(self, name: str, command: Callable[[Path, int], list[str]]) -> None:
        self.name = name
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path, body: bytes) -> float:
        """Start and wait for the first right answer; returns the seconds that took."""
        self.port = free_port()
        begun = time.perf_counter()
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(folder.parent / f"{self.name}.log", "wb") as log:
            command = self._command(folder, self.port)
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        wait_for_answer(self.port, body, self.process)
        return time.perf_counter() - begun

    def memory(self) -> float:
        """Megabytes of the server and its children."""
        return sum(p.memory_info().rss for p in self._processes()) / 1e6

    def work(self) -> float:
        """CPU seconds of the server and its children: on a busy machine they say more than the clock."""
        return sum(sum(p.cpu_times()[:2]) for p in self._processes())

    def _processes(self) -> list[psutil.Process]:
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(15)


def wait_for_answer(port: int, body: bytes, process: subprocess.Popen[bytes] | None = None) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process is None or process.poll() is None, "the server ended"
        with suppress(OSError, ValueError, KeyError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/v2/models/m/infer", body, JSON)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if answer.status == 200:
                assert json.loads(data)["outputs"][0]["data"] == [7]
                return
        time.sleep(0.005)
    raise AssertionError("no answer")


def ours(folder: Path, port: int) -> list[str]:
    command = [sys.executable, "-m", "kaptain_magics.serving", "--model-name", "m", "--framework", "sklearn"]
    return [*command, "--folder", str(folder), "--port", str(port)]


def candidates(folder: Path) -> list[Candidate]:
    model = str(folder / "model.joblib")
    found = [
        Candidate("limit", lambda _, port: [sys.executable, "-c", LIMIT, model, str(port)]),
        Candidate("ours", ours),
    ]
    mlserver, kserve = find_peer("mlserver"), find_peer("kserve")
    if mlserver is not None:
        settings = folder.parent / "mlserver"
        settings.mkdir(exist_ok=True)
        implementation = "mlserver_sklearn.SKLearnModel"
        told = {"name": "m", "implementation": implementation, "parameters": {"uri": model}}
        (settings / "model-settings.json").write_text(json.dumps(told))

        def start(_: Path, port: int) -> list[str]:
            ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "host": "127.0.0.1"}
            (settings / "settings.json").write_text(json.dumps({**ports, "parallel_workers": 0, "debug": False}))
            return [str(mlserver.parent / "mlserver"), "start", str(settings)]

        found.append(Candidate("mlserver", start))
    if kserve is not None:
        found.append(Candidate("kserve", lambda _, port: [str(kserve), "-c", KSERVE, model, str(port)]))
    return found


def load(port: int, clients: int, body_file: Path) -> tuple[float, float, float]:
    """Ask for some seconds over kept connections; returns p50 and p99 in ms and requests per second."""
    if shutil.which("wrk"):
        return load_with_wrk(port, clients, body_file)
    times: list[float] = []
    body = body_file.read_bytes()
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    end = time.perf_counter() + SECONDS

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while (begun := time.perf_counter()) < end:
                connection.sendall(request)
                answer = connection.recv(65536)
                length = int(re.search(rb"content-length: (\d+)", answer.lower())[1])  # type: ignore[index]
                while len(answer.partition(b"\r\n\r\n")[2]) < length:
                    answer += connection.recv(65536)
                times.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles(times, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3, len(times) / SECONDS


def load_with_wrk(port: int, clients: int, body_file: Path) -> tuple[float, float, float]:
    script = body_file.with_suffix(".lua")
    script.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f'local file = io.open("{body_file}")\nwrk.body = file:read("*a")\nfile:close()\n'
    )
    url = f"http://127.0.0.1:{port}/v2/models/m/infer"
    command = ["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--latency", "-s", str(script), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Non-2xx" not in text, text
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    quantiles = {q: float(v) * unit[u] for q, v, u in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", text)}
    return quantiles["50"], quantiles["99"], float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]


def batch(port: int, rows: Any, raw: bool) -> float:
    """Median ms of a request with many rows."""
    tensor: dict[str, Any] = {"name": "predict", "shape": list(rows.shape), "datatype": "FP32"}
    headers, data = dict(JSON), b""
    if raw:
        data = rows.tobytes()
        request = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}]}
        head = json.dumps({**request, "parameters": {"binary_data_output": True}}).encode()
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    else:
        head = json.dumps({"inputs": [{**tensor, "data": rows.ravel().tolist()}]}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    times = []
    for _ in range(15):
        begun = time.perf_counter()
        connection.request("POST", "/v2/models/m/infer", head + data, headers)
        answer = connection.getresponse()
        found = answer.read()
        times.append(time.perf_counter() - begun)
        if answer.status != 200:
            connection.close()
            return float("nan")
        assert len(found) > 1000
    connection.close()
    return statistics.median(times) * 1e3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, Any]:
    folder = tmp_path_factory.mktemp("speed") / "model"
    folder.mkdir()
    digits = load_digits()
    joblib.dump(SVC(gamma=0.001).fit(digits.data[:899], digits.target[:899]), folder / "model.joblib")
    tensor = {"name": "predict", "shape": [1, 64], "datatype": "FP32", "data": digits.data[7].tolist()}
    return folder, json.dumps({"inputs": [tensor]}).encode(), digits.data[:1000].astype(np.float32)


def test_serving(served: tuple[Path, bytes, Any]) -> None:
    folder, body, rows = served
    body_file = folder.parent / "body.json"
    body_file.write_bytes(body)
    everybody = candidates(folder)
    found: dict[str, dict[str, list[float]]] = {c.name: {} for c in everybody}

    def note(name: str, what: str, value: float) -> None:
        found[name].setdefault(what, []).append(value)

    try:
        for _ in range(ROUNDS):
            for candidate in everybody:
                note(candidate.name, "first answer s", candidate.start(folder, body))
                note(candidate.name, "first answer CPU s", candidate.work())
                candidate.stop()
        for candidate in everybody:
            candidate.start(folder, body)
        for _ in range(ROUNDS):
            for clients in (1, 8):
                for candidate in everybody:
                    p50, p99, rate = load(candidate.port, clients, body_file)
                    note(candidate.name, f"p50 ms, {clients}", p50)
                    note(candidate.name, f"p99 ms, {clients}", p99)
                    note(candidate.name, f"req/s, {clients}", rate)
            for candidate in everybody:
                note(candidate.name, "1000 rows JSON ms", batch(candidate.port, rows, raw=False))
                if candidate.name != "limit":
                    note(candidate.name, "1000 rows raw ms", batch(candidate.port, rows, raw=True))
        for candidate in everybody:
            note(candidate.name, "RSS MB", candidate.memory())
    finally:
        for candidate in everybody:
            candidate.stop()
    for value in warm_starts(folder, body):
        note("ours", "first answer s, warm", value)
    show(found)


def warm_starts(folder: Path, body: bytes) -> Iterator[float]:
    """Yield the seconds from a fork of a warm worker to the first answer."""
    with subprocess.Popen([sys.executable, "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.readline()
        for _ in range(ROUNDS):
            port = free_port()
            begun = time.perf_counter()
            worker.stdin.write(json.dumps(ours(folder, port)[3:]).encode() + b"\n")
            worker.stdin.flush()
            wait_for_answer(port, body)
            yield time.perf_counter() - begun
            for child in psutil.Process(worker.pid).children():
                child.terminate()
        worker.stdin.close()


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """Print medians, and what ours is of the others'."""
    names = list(found)
    rows = list(dict.fromkeys(what for name in names for what in found[name]))
    others = [n for n in names if n != "ours"]
    print()
    print(f"{'':22}" + "".join(f"{n:>10}" for n in names) + "".join(f"{'ours/' + n:>15}" for n in others))
    for what in rows:
        medians = {n: statistics.median(found[n][what]) if what in found[n] else float("nan") for n in names}
        line = f"{what:22}" + "".join(f"{medians[n]:10.2f}" for n in names)
        print(line + "".join(f"{medians['ours'] / medians[n]:15.2f}" for n in others))

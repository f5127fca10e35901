"""An API server that plays a script: what clients of a cluster do about answers that a real one gives rarely."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kaptain_magics.targets.kubernetes.api.client import Cluster

Answer = Callable[["ApiServer", dict[str, str]], None]


class ApiServer(BaseHTTPRequestHandler):
    """Plays a script: for every path a list of answers, the last one for good."""

    protocol_version = "HTTP/1.1"
    answers: dict[str, list[Answer]]
    asked: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        key = parts.path.rpartition("/")[2] + ("?watch" if "watch" in query else "")
        self.asked.append((key, query))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        script = self.answers[key]
        (script.pop(0) if len(script) > 1 else script[0])(self, query)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def say(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode() if not isinstance(body, bytes) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *pieces: bytes, end: bool = True) -> None:
        """Send pieces in chunks; without an end the connection breaks."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if end:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, list[Answer]]], tuple[Cluster, type[ApiServer]]]]:
    servers = []

    def begin(answers: dict[str, list[Answer]]) -> tuple[Cluster, type[ApiServer]]:
        from kubernetes.client import Configuration

        handler = type("Script", (ApiServer,), {"answers": answers, "asked": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configuration = Configuration(host=f"http://127.0.0.1:{server.server_address[1]}")
        return Cluster(configuration, "demo"), handler

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def pod(version: int, uid: str = "u", phase: str = "Pending", container: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase}
    if container:
        status["containerStatuses"] = [{"name": "c", "state": {container: {}}}]
    return {"metadata": {"name": "p", "uid": uid, "resourceVersion": str(version)}, "status": status}


def listing(version: int, *pods: dict[str, Any]) -> Answer:
    return lambda server, _: server.say(200, {"metadata": {"resourceVersion": str(version)}, "items": list(pods)})


def silence(server: ApiServer, _: dict[str, str]) -> None:
    server.send_response(200)
    server.send_header("Transfer-Encoding", "chunked")
    server.end_headers()
    server.wfile.flush()
    server.rfile.read(1)


def stamped(second: int, text: str, nano: int = 0) -> bytes:
    return f"2026-11-22T13:00:{second:02d}.{nano:09d}Z {text}\n".encode()

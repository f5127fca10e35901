"""Slow, broken, huge and concurrent clients do no harm; a server that ends answers what was asked."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.servers import JSON, ModelServer, drain, predictor, tensor
from tests.waiting import until

SLOW = """
import time
def predict(inputs):
    (rows,) = inputs.values()
    time.sleep(float(rows.ravel()[0]))
    return rows
"""
GIL = """
batchable = True
def predict(inputs):
    import os
    (rows,) = inputs.values()
    return [os.getpid()] * len(rows)
"""


def one(value: float = 1.0) -> bytes:
    return json.dumps({"inputs": [tensor("x", "FP64", [1, 1], [value])]}).encode()


class Load:
    """Clients that ask without pause and check every answer.

    Args:
        port: Where to ask.
        clients: How many.
        keep: Whether they keep their connections.
    """

    def __init__(self, port: int, clients: int = 4, keep: bool = True, name: str = "m") -> None:
        self.answered = 0
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._arguments = (port, keep, f"/v2/models/{name}/infer")
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        port, keep, path = self._arguments
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        count = 0
        while not self._stop.is_set():
            count += 1
            value = number * 1_000_000.0 + count
            try:
                connection.request("POST", path, one(value), JSON)
                answer = connection.getresponse()
                data = json.loads(answer.read())
            except OSError as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            if answer.status != 200 or data["outputs"][0]["data"] != [value]:
                self.wrong.append(f"{answer.status}: {data}")
            self.answered += 1
            if not keep:
                connection.close()
        connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def test_clients_that_are_slow_to_ask(adder_folder: Path) -> None:
    with ModelServer(adder_folder, "python", "--read-seconds", "1") as server:
        body = one()
        head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        for sent in (b"", b"POST /v2/mod", head[:-2], head, head + body[:-1]):
            answer = server.raw(sent)
            assert answer.startswith(b"HTTP/1.1 408 "), (sent, answer)
            assert b'{"error":' in answer
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            for byte in head:  # a byte now and then keeps nothing open
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    break
                time.sleep(0.05)
            assert b" 408 " in drain(connection)
        assert server.request("POST", "/v2/models/m/infer", body, JSON)[0] == 200


def test_a_client_that_does_not_take_its_answer(echo: ModelServer, adder_folder: Path) -> None:
    rows = 100_000
    request = json.dumps({"inputs": [tensor("x", "INT64", [rows, 1], [10**15] * rows)]}).encode()
    with ModelServer(echo.log_path.parent / "echo", "python", "--read-seconds", "1") as server:
        greedy = socket.socket()
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.connect(("127.0.0.1", server.port))
        greedy.settimeout(60)
        head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(request)
        for _ in range(4):
            greedy.sendall(head + request)
        process = psutil.Process(server.process.pid)
        until(lambda: not [c for c in process.net_connections() if c.status == "ESTABLISHED"], 60, "connection dropped")
        greedy.close()
        assert server.request("POST", "/v2/models/m/infer", one(), JSON)[0] == 200


def test_clients_that_break_off(echo: ModelServer) -> None:
    body = one()
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for sent in (b"", head[:20], head, head + body[:10], head + body):
        for reset in (True, False):
            with socket.create_connection(("127.0.0.1", echo.port), timeout=30) as connection:
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(sent)
    assert echo.request("POST", "/v2/models/m/infer", body, JSON)[0] == 200
    assert "Traceback" not in echo.log


def test_many_connections(tmp_path: Path) -> None:
    """Requests in flight are never given up for a further connection; that is refused."""
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"limits": {"connections": 20}}))
    body = one(2.0)
    sent = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with ModelServer(predictor(tmp_path / "slow", SLOW), "python", "--options", str(options)) as server:
        held: list[socket.socket] = []

        def refused() -> bool:
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            held[-1].sendall(sent)
            status, answer, _ = server.request("GET", "/v2/health/live")
            return status == 503 and b"too many connections" in answer

        until(refused, 30, "refused")
        assert len(held) >= 20
        for connection in held:
            connection.close()
        until(lambda: server.request("GET", "/v2/health/live")[0] == 200, 30, "taken again")


def test_a_full_queue_is_refused(tmp_path: Path) -> None:
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"limits": {"waiting": 2}}))
    with ModelServer(predictor(tmp_path / "slow", SLOW), "python", "--options", str(options)) as server:
        with ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(server.request, "POST", "/v2/models/m/infer", one(1.0), JSON) for _ in range(12)]
            statuses = sorted(call.result()[0] for call in calls)
        assert statuses.count(200) >= 2
        assert statuses.count(503) == 12 - statuses.count(200)
        assert statuses[-1] == 503


def test_health_while_the_model_works(tmp_path: Path) -> None:
    with ModelServer(predictor(tmp_path / "slow", SLOW), "python") as server:
        busy = threading.Thread(target=server.request, args=("POST", "/v2/models/m/infer", one(3.0), JSON))
        busy.start()
        until(lambda: b"kaptain_requests_in_flight{" in server.request("GET", "/metrics")[1], 30)
        started = time.monotonic()
        assert server.get("/v2/health/live")[0] == 200
        assert busy.is_alive()
        assert time.monotonic() - started < 2.5
        busy.join()


def test_live_before_ready(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    source = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n" + SLOW
    server = ModelServer(predictor(tmp_path / "late", source), "python", wait=False)
    try:
        found = until(lambda: server._find(r"listening on \S+:(\d+)"), 60)
        assert found is not None
        server.port = int(found[1])
        assert until(lambda: server.get("/v2/health/live")[0], 60) == 200
        for path in ("/v2/health/ready", "/v2/models/m/ready", "/v2/models/m"):
            status, answer = server.get(path)
            assert (status, list(answer)) == (503, ["error"])
        assert server.request("POST", "/v2/models/m/infer", one(), JSON)[0] == 503
        gate.touch()
        until(lambda: server.get("/v2/health/ready")[0] == 200, 60)
        assert server.stop() == 0
    finally:
        server.kill()


def test_concurrent_single_rows_are_batched_and_right(adder_folder: Path) -> None:
    with ModelServer(adder_folder, "python") as server:
        load = Load(server.port, clients=8)
        until(lambda: load.answered > 2000, 120)
        load.stop()
        assert not load.wrong
        text = server.request("GET", "/metrics")[1].decode()
        counts = {line.split("{")[0]: float(line.split()[-1]) for line in text.splitlines() if line[0] != "#"}
        assert counts["kaptain_model_calls_total"] < counts["kaptain_rows_total"]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "fresh"])
def test_no_request_is_lost_when_the_server_ends(tmp_path: Path, keep: bool, workers: str) -> None:
    """A client with a connection gets an answer, and learns from it when there will be no further one."""
    with ModelServer(predictor(tmp_path / "slow", SLOW), "python", "--workers", workers) as server:
        lost: list[str] = []
        refused = threading.Barrier(5, timeout=60)

        def ask() -> None:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    break
                try:
                    for _ in range(1000 if keep else 1):
                        connection.request("POST", "/v2/models/m/infer", one(0.01), JSON)
                        answer = connection.getresponse()
                        data = json.loads(answer.read())
                        if answer.status != 200 or data["outputs"][0]["data"] != [0.01]:
                            lost.append(f"{answer.status}: {data}")
                        if answer.will_close:
                            break
                except OSError as error:
                    lost.append(repr(error))
                finally:
                    connection.close()
            refused.wait()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: b'code="200"' in server.request("GET", "/metrics")[1], 60)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, server.log
        refused.wait()
        for thread in threads:
            thread.join(60)
        assert not lost


def test_a_long_request_is_answered_before_the_end(tmp_path: Path) -> None:
    with ModelServer(predictor(tmp_path / "slow", SLOW), "python") as server:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(server.request, "POST", "/v2/models/m/infer", one(2.0), JSON)
            until(lambda: 'in_flight{model="m",revision="1"} 1' in server.request("GET", "/metrics")[1].decode(), 30)
            server.process.send_signal(signal.SIGTERM)
            status, _, headers = call.result()
        assert (status, headers["connection"]) == (200, "close")
        assert server.process.wait(30) == 0


def test_the_drain_has_an_end(tmp_path: Path) -> None:
    with ModelServer(predictor(tmp_path / "slow", SLOW), "python", "--drain-seconds", "0.5") as server:
        threading.Thread(target=server.request, args=("POST", "/v2/models/m/infer", one(4.0), JSON)).start()
        until(lambda: 'in_flight{model="m",revision="1"} 1' in server.request("GET", "/metrics")[1].decode(), 30)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_several_workers(tmp_path: Path) -> None:
    with ModelServer(predictor(tmp_path / "who", GIL), "python", "--workers", "2") as server:

        def pids() -> set[int]:
            found = set()
            for _ in range(20):
                status, answer = server.infer({"inputs": [tensor("x", "INT8", [1], [1])]})
                assert status == 200
                found.add(answer["outputs"][0]["data"][0])
            return found

        def both() -> set[int] | None:
            with ThreadPoolExecutor(8) as pool:
                found = set().union(*pool.map(lambda _: pids(), range(8)))
            return found if len(found) == 2 else None

        first = until(both, 60, "both answer")
        assert first is not None
        assert server.process.pid not in first
        count = server.request("GET", "/metrics")[1]
        assert int(count.split(b'code="200"} ')[1].split()[0]) >= 160  # of both, whichever worker answers
        os.kill(min(first), signal.SIGKILL)
        second = until(lambda: found if (found := both()) and found != first else None, 60, "replaced")
        assert second is not None
        assert max(first) in second
        assert "starting another one" in server.log
    for pid in first | second:
        until(lambda pid=pid: not psutil.pid_exists(pid), 30, "worker ended")  # type: ignore[misc]


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    server = ModelServer(predictor(tmp_path / "who", GIL), "python", "--workers", "2")
    children = psutil.Process(server.process.pid).children()
    assert len(children) == 2
    server.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_memory_stays_flat(adder_folder: Path) -> None:
    with ModelServer(adder_folder, "python") as server:
        process = psutil.Process(server.process.pid)
        body = json.dumps({"inputs": [tensor("x", "FP64", [500, 20], [1.5] * 10_000)]}).encode()
        for _ in range(60):
            assert server.request("POST", "/v2/models/m/infer", body, JSON)[0] == 200
        before = process.memory_info().rss
        for _ in range(200):
            assert server.request("POST", "/v2/models/m/infer", body, JSON)[0] == 200
        assert process.memory_info().rss - before < 8 << 20
        assert process.num_fds() < 30


def test_the_server_imports_no_notebook(adder_folder: Path) -> None:
    code = (
        "import sys, kaptain_magics.serving.__main__, kaptain_magics.serving.router.__main__, threading\n"
        "bad = {'IPython', 'optuna', 'pandas', 'sklearn', 'docker', 'kubernetes', 'grpc', 'minio', 'traitlets'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

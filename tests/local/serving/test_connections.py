"""What the server does with connections, with uvloop and on asyncio's own loop."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.serving.http.answers import Answer
from kaptain_magics.serving.http.http_requests import Request
from kaptain_magics.serving.http.http_server import HttpServer
from kaptain_magics.serving.protocol.limits import Limits
from tests.servers import ModelServer, drain, tensor
from tests.waiting import until

BODY = json.dumps({"inputs": [tensor("x", "INT64", [1, 2], [3, 4])]}).encode()
POST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: Any, adder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("hide")
    if request.param == "asyncio":
        (folder / "uvloop.py").write_text("raise ModuleNotFoundError('no', name='uvloop')\n")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    options = folder / "options.json"
    options.write_text(json.dumps({"limits": {"connections": 50}}))
    with ModelServer(adder_folder, "python", "--options", str(options), env={"PYTHONPATH": path}) as made:
        yield made


def post(body: bytes = BODY, *headers: bytes) -> bytes:
    lines = (b"Content-Length: %d" % len(body), b"Content-Type: application/json", *headers)
    return POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def ended(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = [line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
    return bool(length) and len(body) >= int(length[0].split()[1])


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    answer = b""
    while not ended(answer):
        more = connection.recv(65536)
        if not more:
            break
        answer += more
    return answer


def test_a_wish_for_another_protocol_is_ignored(server: ModelServer) -> None:
    """Java's HttpClient and Spring send it with every request, body and all."""
    wish = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for _ in range(2):
            answer = ask(connection, post(BODY, *wish))
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert b'"data":[7]' in answer
        head, body = post(BODY, *wish).split(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n" + body[:5])
        assert b'"data":[7]' in ask(connection, body[5:])
        chunked = POST + b"Transfer-Encoding: chunked\r\n" + b"\r\n".join(wish) + b"\r\n\r\n"
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        assert b'"data":[7]' in ask(connection, chunked + chunks)
        assert ask(connection, GET).startswith(b"HTTP/1.1 200 ")
    answer = server.raw(post(BODY, b"Connection: upgrade, close", b"Upgrade: websocket"))
    assert b'"data":[7]' in answer
    assert b"connection: close" in answer


def test_expect_continue(server: ModelServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head, body = post(BODY, b"Expect: 100-continue").split(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert b'"data":[7]' in ask(connection, body)
        refused = ask(connection, POST + b"Expect: 100-continue\r\nContent-Length: 999999999999\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 413 ")
        assert not connection.recv(1)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /v2 HTTP/1.1\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.0\r\n\r\n", 200),
        (b"GET /v2\r\n\r\n", 400),
        (b"GET /v2 HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /v2?" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a:\r\n" * 20_000 + b"\r\n", 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 80_000 + b"\r\n", 431),
    ],
)
def test_what_is_refused(server: ModelServer, sent: bytes, status: int) -> None:
    answer = server.raw(sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"connection: close\r\n" in answer


def test_trailers_and_targets(server: ModelServer) -> None:
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%b\r\n0\r\nHost: y\r\nX: y\r\n\r\n" % (
        len(BODY),
        BODY,
    )
    for target in (b"/v2/health/live?a=b", b"http://x/v2/health/live?a", b"/v2/health/li%76e"):
        chunked += b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = server.raw(chunked + b"HEAD /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 5
    assert answer.count(b'{"live":true}') == 3
    assert answer.endswith(b"content-length: 13\r\nconnection: close\r\n\r\n")


def test_many_requests_at_once_are_answered_in_their_order(server: ModelServer) -> None:
    bodies = [json.dumps({"inputs": [tensor("x", "INT64", [1, 1], [n])], "id": f"<{n}>"}).encode() for n in range(2000)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"".join(map(post, bodies)) + GET + b"nonsense\r\n\r\n")
        answer = drain(connection)
    parts = answer.split(b"HTTP/1.1 ")[1:]
    assert [part[:3] for part in parts] == [b"200"] * 2001 + [b"400"]
    assert all(b'"<%d>"' % number in part for number, part in enumerate(parts[:2000]))


def test_a_client_that_has_sent_all_gets_its_answers(server: ModelServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(post() * 3)
        connection.shutdown(socket.SHUT_WR)
        assert drain(connection).count(b'"data":[7]') == 3


def test_a_refused_body_leaves_the_connection_usable(server: ModelServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head, body = post(b" " * 300_000).replace(b"/models/m/", b"/models/none/").split(b"\r\n\r\n", 1)
        assert ask(connection, head + b"\r\n\r\n").startswith(b"HTTP/1.1 404 ")
        assert b'"data":[7]' in ask(connection, body + post())


@pytest.mark.parametrize("sent", [b"", b"GET /v2/he", GET], ids=["nothing", "half", "idle"])
def test_the_longest_idle_connection_gives_way(server: ModelServer, sent: bytes) -> None:
    with ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30)) for _ in range(50)
        ]
        for connection in held:
            if sent == GET:
                ask(connection, GET)
            else:
                connection.sendall(sent)
        for _ in range(60):
            assert server.request("GET", "/v2/health/live")[0] == 200
        closed = until(lambda: select.select(held, [], [], 0)[0], 30, "closed")
        assert not drain(closed[0])
        kept = [connection for connection in held if connection not in closed]
        assert len(kept) > 40
        assert ask(kept[-1], GET[len(sent) :] or GET).startswith(b"HTTP/1.1 200 ")


def test_a_kept_connection_costs_what_loopback_costs(server: ModelServer) -> None:
    """The answer is not held back for the client's acknowledgement, which comes 40 ms later."""

    def measure() -> float:
        times = []
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            for _ in range(40):
                begun = time.perf_counter()
                assert ask(connection, post()).startswith(b"HTTP/1.1 200 ")
                times.append(time.perf_counter() - begun)
        return statistics.median(times)

    assert min(measure() for _ in range(5)) < 0.01


def test_sockets_are_sent_without_delay() -> None:
    async def run() -> int:
        server = HttpServer(_live, Limits())
        listener = socket.create_server(("127.0.0.1", 0))
        server.listen(listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(GET)
        await reader.readuntil(b"live")
        (connection,) = server.connections
        taken = connection.detach()
        with taken:
            set_to = taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await server.drain(5)
        return set_to

    assert asyncio.run(run()) != 0


def test_an_idle_connection_can_be_handed_over() -> None:
    async def run() -> None:
        servers = [HttpServer(_live, Limits()) for _ in range(2)]
        listener = socket.create_server(("127.0.0.1", 0))
        servers[0].listen(listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        for _ in range(2):
            writer.write(GET)
            await reader.readuntil(b"live")
        (connection,) = servers[0].connections
        assert connection.idle
        assert not connection.in_flight
        taken = connection.detach()
        writer.write(GET)
        servers[1].take(taken)
        await reader.readuntil(b"live")
        writer.close()
        for server in servers:
            assert await server.drain(5)

    asyncio.run(run())


async def _live(request: Request) -> Answer:
    return Answer(200, (), b"live")

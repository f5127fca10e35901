"""What follows a server: it gets the server's clients, and the requests that were not whole yet when it took over."""

from __future__ import annotations

import asyncio
import socket
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from kaptain_magics.serving.control import hand_over
from kaptain_magics.serving.http.answers import Answer
from kaptain_magics.serving.http.http1 import CHUNK, Head, read_body, read_head
from kaptain_magics.serving.http.http_requests import Request
from kaptain_magics.serving.protocol.protocol_errors import RequestError
from kaptain_magics.sockets import short_path

_OWN = (b"date", b"content-length")  # headers that every answer gets of its own
_SENT = (b"authorization", b"content-encoding", b"content-type", b"inference-header-content-length")
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]"}  # where a server that listens everywhere is reached

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Successor:
    """The server, or the router, that has the requests from now on.

    Args:
        address: Its ``control`` and ``private`` sockets; the private one is empty for a router.
        public: Address at which it, or its own successor, is reached.
    """

    def __init__(self, address: dict[str, Any], public: Sequence[Any]) -> None:
        self._control, self._private = str(address.get("control", "")), str(address.get("private", ""))
        self._host, self._port = LOOPBACK.get(public[0], public[0]), public[1]

    async def take(self, clients: Sequence[tuple[socket.socket, bytes]]) -> list[tuple[socket.socket, bytes]]:
        """Give it clients' connections; returns those that it could not be asked to take."""
        if not self._control:
            return list(clients)
        return await asyncio.to_thread(hand_over, Path(self._control), clients)

    async def answer(self, request: Request) -> Answer:
        """Let it answer a request.

        Raises:
            RequestError: It does not, nor does its own successor.
        """
        body = await request.read()
        lines = [name + b": " + value for name, value in request.headers.items() if name in _SENT]
        method = "GET" if request.method == "HEAD" else request.method
        first = f"{method} {urllib.parse.quote(request.path)} HTTP/1.1".encode()
        lines = [first, b"host: localhost", b"connection: close", b"content-length: %d" % len(body), *lines]
        whole = b"\r\n".join((*lines, b"", b"")) + body
        for connect in self._connectors():
            try:
                reader, writer = await connect()
            except OSError:
                continue
            try:
                answer = await _exchange(reader, writer, whole)
            except (OSError, EOFError, RequestError):
                continue  # it has just left itself
            finally:
                writer.close()
            if answer is not None:
                return answer
        raise RequestError(503, "the server that replaced this one does not answer", ((b"retry-after", b"1"),))

    def _connectors(self) -> list[Callable[[], Awaitable[Streams]]]:
        async def private() -> Streams:
            with short_path(Path(self._private)) as path:
                return await asyncio.open_unix_connection(path, limit=CHUNK)

        async def public() -> Streams:
            return await asyncio.open_connection(self._host, self._port, limit=CHUNK)

        return [private, public] if self._private else [public]


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer | None:
    writer.write(request)
    head: Head | None = await read_head(reader, request=False)
    if head is None:
        return None
    body = b"".join([piece async for piece in read_body(reader, head)])
    headers = tuple(header for header in head.headers if header[0] not in _OWN)
    return Answer(int(head.first.split()[1]), headers, body)

"""HTTP/1.1 for a proxy: heads are parsed and written again, bodies are passed on unread."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import httptools

from kaptain_magics.serving.protocol.protocol_errors import RequestError

CHUNK = 64 * 1024  # bytes of a request line with its headers, or of trailers; also what is read at a time
_OWN = (b"connection", b"expect", b"keep-alive", b"proxy-connection", b"upgrade")  # of one connection, not passed on
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n")


class Head(NamedTuple):
    """The head of a request or an answer.

    Attributes:
        first: Its first line.
        headers: Names in lower case and values, without those of the connection itself.
        length: Bytes of the body.
        chunked: Whether the body comes in chunks.
        close: Whether the connection ends after it.
        waits: Whether the client waits for ``100 Continue``.
    """

    first: bytes
    headers: list[tuple[bytes, bytes]]
    length: int
    chunked: bool
    close: bool
    waits: bool

    def bytes(self, close: bool) -> bytes:
        """Return the head for the next connection."""
        lines = [self.first, *(name + b": " + value for name, value in self.headers)]
        lines += [b"connection: close"] * close
        return b"\r\n".join((*lines, b"", b""))


class _Headers:
    """Collects the headers of a request or response, and whether the connection may be used again."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.whole = self.keep_alive = False
        self.parser: Any = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: one header; names are kept in lower case, duplicates too."""
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """httptools: the empty line after the headers."""
        self.whole = True
        self.keep_alive = self.parser.should_keep_alive()


async def read_head(
    reader: asyncio.StreamReader,
    *,
    request: bool = True,
    idle: float | None = None,
    on_start: Callable[[], object] | None = None,
) -> Head | None:
    """Read the next head; ``None`` when the other side has closed.

    Args:
        reader: Where it comes from.
        request: Whether it is a request's, or an answer's.
        idle: Seconds to wait for its first byte.
        on_start: Called when that has come.

    Raises:
        RequestError: It is not HTTP, or leaves open where its body ends.
        TimeoutError: It does not begin in time.
    """
    async with asyncio.timeout(idle):
        begin = await reader.read(1)
    if not begin:
        return None
    if on_start is not None:
        on_start()
    try:
        raw = begin + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        raise RequestError(400, "the request ended before its headers were complete") from None
    except asyncio.LimitOverrunError:
        raise RequestError(431, f"the request's line and headers are larger than {CHUNK} bytes") from None
    headers = _Headers()
    headers.parser = parser = (httptools.HttpRequestParser if request else httptools.HttpResponseParser)(headers)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # it is not passed on
    except httptools.HttpParserError:
        headers.whole = False
    if not headers.whole or parser.get_http_version() not in ("1.0", "1.1") or raw.startswith(b"CONNECT "):
        raise RequestError(400, "malformed HTTP request")
    headers.parser = None
    first = raw.lstrip(b"\r\n").partition(b"\r\n")[0]
    return _head(first, headers.fields, not headers.keep_alive or parser.get_http_version() == "1.0")


def _head(first: bytes, fields: list[tuple[bytes, bytes]], close: bool) -> Head:
    headers: list[tuple[bytes, bytes]] = []
    length, chunked, waits, hosts = 0, False, False, 0
    for name, value in fields:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or chunked:
                raise RequestError(400, "Transfer-Encoding: only chunked is supported")
            chunked = True
        elif name == b"host":
            hosts += 1
        elif name == b"expect":
            waits = value.lower() == b"100-continue"
        if name not in _OWN:
            headers.append((name, value))
    if hosts > 1:
        raise RequestError(400, "duplicate header host")
    return Head(first, headers, length, chunked, close, waits)


async def read_body(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """Yield the body's bytes as they are on the wire, without trailers.

    Raises:
        RequestError: The chunks are broken.
        EOFError: The other side went away.
    """
    if not head.chunked:
        async for data in _read(reader, head.length):
            yield data
        return
    while True:
        line = await reader.readuntil(b"\r\n")
        size = _SIZE.fullmatch(line)
        if size is None:
            raise RequestError(400, "malformed chunk size")
        yield size[1] + b"\r\n"
        left = int(size[1], 16)
        if not left:
            break
        async for data in _read(reader, left):
            yield data
        if await reader.readexactly(2) != b"\r\n":
            raise RequestError(400, "malformed chunk: its data does not end at its size")
        yield b"\r\n"
    left = CHUNK
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        left -= len(line)
        if left < 0:
            raise RequestError(431, f"the request's trailers are larger than {CHUNK} bytes")
    yield b"\r\n"


async def _read(reader: asyncio.StreamReader, left: int) -> AsyncIterator[bytes]:
    while left:
        data = await reader.read(min(left, CHUNK))
        if not data:
            raise EOFError
        left -= len(data)
        yield data

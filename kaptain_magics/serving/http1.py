"""Just enough of HTTP/1.1 for a proxy: heads are read strictly, bodies are passed on unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from kaptain_magics.serving.errors import RequestError

CHUNK = 64 * 1024


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


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read the next head; ``None`` when the other side has closed.

    Raises:
        RequestError: It is not HTTP, or leaves open where its body ends.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise RequestError(400, "the request ends in its head") from None
        return None
    except asyncio.LimitOverrunError:
        raise RequestError(431, f"the request's head is larger than {CHUNK} bytes") from None
    first, *lines = raw[:-4].split(b"\r\n")
    if b"\n" in raw.replace(b"\r\n", b"") or b"HTTP/1." not in first:
        raise RequestError(400, "Invalid HTTP request received.")
    return _parse(first, lines)


def _parse(first: bytes, lines: list[bytes]) -> Head:
    headers: list[tuple[bytes, bytes]] = []
    length: bytes | None = None
    chunked = waits = False
    close = b"HTTP/1.0" in first
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if not colon or not name or name != name.strip():
            raise RequestError(400, "a header is not one")
        if name == b"content-length":
            if not value.isdigit() or length not in (None, value):
                raise RequestError(400, "Content-Length is not one number")
            length = value
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or chunked:
                raise RequestError(400, "Transfer-Encoding: only chunked is understood")
            chunked = True
        elif name == b"connection":
            close = close or b"close" in value.lower()
            continue
        elif name == b"expect":
            waits = value.lower() == b"100-continue"
            continue
        elif name in (b"keep-alive", b"upgrade", b"proxy-connection"):
            continue
        headers.append((name, value))
    if chunked and length is not None:
        raise RequestError(400, "Content-Length and Transfer-Encoding exclude each other")
    return Head(first, headers, int(length or 0), chunked, close, waits)


async def read_body(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """Yield the body's bytes as they are on the wire.

    Raises:
        RequestError: The chunks are broken.
        EOFError: The other side went away.
    """
    if not head.chunked:
        left = head.length
        while left:
            data = await reader.read(min(left, CHUNK))
            if not data:
                raise EOFError
            left -= len(data)
            yield data
        return
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = left = int(line.partition(b";")[0].strip(), 16)
        except ValueError:
            raise RequestError(400, "a chunk has no size") from None
        yield line
        while left:
            data = await reader.read(min(left, CHUNK))
            if not data:
                raise EOFError
            left -= len(data)
            yield data
        if size == 0:  # the last chunk: trailers follow
            while True:
                line = await reader.readuntil(b"\r\n")
                yield line
                if line == b"\r\n":
                    return
        end = await reader.readexactly(2)
        if end != b"\r\n":
            raise RequestError(400, "a chunk does not end where it says")
        yield end

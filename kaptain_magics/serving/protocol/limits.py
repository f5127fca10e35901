"""What the server takes at most from one client and from all."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import msgspec

from kaptain_magics.serving.protocol.protocol_errors import RequestError

Body = bytes | bytearray
_PIECE = 256 * 1024  # bytes that are unpacked at a time


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the server.

    Attributes:
        body: Bytes of a request's body, also after decompression; its JSON may have a quarter of them.
        memory: Bytes that all large requests in flight may take together, with what is made of them.
        header: Bytes of a request's line and headers.
        rows: Size of a tensor's first dimension.
        waiting: Requests that wait for the model.
        connections: Open connections of one process.
        read_seconds: Seconds in which a request must have arrived whole, and in which some of an answer must be taken.
        idle_seconds: Seconds that a connection is kept open without a request.
        batch_rows: Rows of several requests that one call of the model may take; 1 switches batching off.
    """

    body: int = 32 * 1024 * 1024
    memory: int = 96 * 1024 * 1024
    header: int = 64 * 1024
    rows: int = 1_000_000
    waiting: int = 1_000
    connections: int = 2_000
    read_seconds: float = 30.0
    idle_seconds: float = 75.0
    batch_rows: int = 64

    @property
    def json(self) -> int:
        """Bytes of a request's JSON: the same values take four times as many bytes in it as raw, or more."""
        return self.body // 4


def decompress(body: Body, encoding: bytes, limit: int, take: Callable[[int], None]) -> Body:
    """Return a request's body without its ``Content-Encoding``.

    Args:
        body: The body as it came.
        encoding: ``gzip``, ``deflate`` or ``identity``.
        limit: Bytes at most.
        take: Counts the bytes of memory that it needs, or refuses.

    Raises:
        RequestError: Another encoding, broken data, or more than ``limit``.
    """
    if encoding == b"identity":
        return body
    if encoding not in (b"gzip", b"deflate"):
        raise RequestError(415, "Content-Encoding: use gzip, deflate or none")
    unpacker = zlib.decompressobj(47 if encoding == b"gzip" else 15)
    unpacked, data = bytearray(), body
    try:
        while data and not unpacker.eof:
            piece = unpacker.decompress(data, _PIECE)
            data = unpacker.unconsumed_tail
            if len(unpacked) + len(piece) > limit:
                raise too_large(limit)
            if unpacked:
                take(len(piece))
            unpacked += piece
    except zlib.error:
        raise RequestError(400, f"the body is not {encoding.decode()}") from None
    if not unpacker.eof:
        raise RequestError(400, f"the body is truncated {encoding.decode()}")
    return unpacked


def too_large(limit: int) -> RequestError:
    """Return the error for a body over the limit."""
    return RequestError(413, f"the body is larger than {limit} bytes", ((b"connection", b"close"),))

"""Answers, and how they look on an HTTP/1.1 connection."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from kaptain_magics.serving.protocol.protocol_errors import JSON, RequestError, error_body

Headers = tuple[tuple[bytes, bytes], ...]

_CLOSE = (b"connection", b"close")
_ONE_WRITE = 64 * 1024  # bytes of a body up to which it is copied behind its head
_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class Answer(NamedTuple):
    """A whole answer; its length and date are written with it and are not among the headers."""

    status: int
    headers: Headers
    body: bytes

    @classmethod
    def of(cls, error: RequestError) -> Answer:
        """Return the answer to a request that is refused."""
        return cls(error.status, (*JSON, *error.headers), error_body(error.message))

    @property
    def closes(self) -> bool:
        """Whether the connection is closed after it (it has ``connection: close``)."""
        return _CLOSE in self.headers

    def pieces(self, date: bytes, keep: bool, head_only: bool) -> tuple[bytes, ...]:
        """Return its bytes for the wire, a large body apart from the head.

        Args:
            date: The header line of that name.
            keep: Whether the connection may take another request.
            head_only: Whether the request was ``HEAD``.
        """
        lines = [_LINES[self.status], date]
        lines += [b"%s: %s\r\n" % header for header in self.headers]
        lines.append(b"content-length: %d\r\n" % len(self.body))
        if not keep and not self.closes:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if head_only:
            return (b"".join(lines),)
        if len(self.body) <= _ONE_WRITE:
            return (b"".join((*lines, self.body)),)
        return b"".join(lines), self.body

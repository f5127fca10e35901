"""HTTP/1.1 requests as the application sees them, and the parsing that makes them."""

from __future__ import annotations

import asyncio
import math
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httptools

from kaptain_magics.serving.http.budget import FREE, Budget, Share
from kaptain_magics.serving.http.origin import HEADERS
from kaptain_magics.serving.protocol.limits import Body
from kaptain_magics.serving.protocol.protocol_errors import RequestError

# Headers that the application reads; of all others only their size is looked at.
READ_HEADERS = frozenset(
    (
        *HEADERS,
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"inference-header-content-length",
        b"transfer-encoding",
    )
)
_ONCE = (b"host", b"transfer-encoding")
_SLICE = 4096  # bytes that the parser gets at once, so that no more requests come out of it than are wanted
_BODY_SLICE = 64 * 1024  # the same within a body of known length
_PACE = 2.0  # seconds of a body's coming that its pace is measured over
_INVALID = "malformed HTTP request"


class Request:
    """One request; its body may still be on its way.

    Args:
        method: Its method.
        path: Its path, decoded, without the query.
        headers: The wanted ones, names in lower case.
        keep_alive: Whether its connection may take another one.

    Attributes:
        size: Bytes of the body so far.
        whole: Whether the body is complete.
        expects: Whether the client waits for ``100 Continue`` before it sends the body.
        on_read: Called when the body is waited for.
        budget: What large requests share.
    """

    __slots__ = (
        "_body",
        "_error",
        "_mark",
        "_pace",
        "_share",
        "_waiter",
        "budget",
        "expects",
        "headers",
        "keep_alive",
        "method",
        "on_read",
        "path",
        "size",
        "whole",
    )

    def __init__(self, method: str, path: str, headers: Mapping[bytes, bytes], keep_alive: bool) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.keep_alive = keep_alive
        self.size = 0
        self.whole = False
        self.expects = headers.get(b"expect", b"").lower() == b"100-continue"
        self.on_read: Callable[[Request], None] | None = None
        self._body: Body = b""
        self._error: RequestError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.budget: Budget | None = None
        self._share: Share | None = None
        self._mark = (0.0, 0)  # when the pace was measured, and what had come by then
        self._pace = math.inf

    async def read(self) -> Body:
        """Return the whole body when it has come.

        Raises:
            RequestError: It was refused while it came.
        """
        if not self.whole and self._error is None:
            if self.on_read is not None:
                self.on_read(self)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:  # a copy: one with a traceback would keep itself alive, and what the frames hold
            raise RequestError(self._error.status, self._error.message, self._error.headers)
        body, self._body = self._body, b""
        return body

    def add(self, data: bytes) -> None:
        """Take a piece of the body; it is refused where it is too much for the budget."""
        self.size += len(data)
        if self._error is not None:
            return
        if self.size > FREE:
            self._look_at_clock()
            try:
                self.take(min(len(data), self.size - FREE))
            except RequestError as error:
                self.fail(error)
                return
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body) + data

    @property
    def pace(self) -> float:
        """Bytes a second with which a body came lately that is counted and not whole; endless where that is unknown."""
        if self.whole or self._share is None:
            return math.inf
        self._look_at_clock()
        return self._pace

    def _look_at_clock(self) -> None:
        now, (since, before) = time.monotonic(), self._mark
        if since and now - since > _PACE:
            self._pace = (self.size - before) / (now - since)
        if not since or now - since > _PACE:
            self._mark = (now, self.size)

    def complete(self) -> None:
        """Wake the reader of the body: no more will come."""
        self.whole = True
        self._wake()

    def drop(self) -> None:
        """Keep nothing of the body: it is not read any more."""
        self.fail(RequestError(400, "the body is not read"))

    def fail(self, error: RequestError) -> None:
        """Keep nothing of the body; reading it raises the error."""
        self._error = error
        self.release()
        self._wake()

    def take(self, size: int) -> None:
        """Count bytes of memory that the request needs beyond the first ones; may be called from any thread.

        Raises:
            RequestError: There are too many.
        """
        if self.budget is None:
            return
        share = self._share = self._share or Share(self.budget)
        share.take(size)
        if self._share is not share:  # it was refused while room was made for it
            share.give_back()

    def release(self) -> bool:
        """Nothing of the request is needed any more; returns whether it was a large one."""
        self._body = b""
        share, self._share = self._share, None
        return share is not None and share.give_back()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Receiver(Protocol):
    """The callbacks of a parser: once each for every request, in this order, ``body_received`` any number of times.

    A later request of the connection may start before the earlier one is answered (pipelining).
    """

    def request_started(self) -> None:
        """The first byte came: from now on the clock for a request's head runs."""

    def head_received(self, request: Request) -> None:
        """Line and headers are complete and valid; the body may follow."""

    def body_received(self, request: Request, data: bytes) -> None:
        """``data`` is the next piece of the body, without the framing of chunks."""

    def request_complete(self, request: Request) -> None:
        """The body is complete; without one this follows ``head_received`` at once."""


class RequestParser:
    """Turns the bytes of one connection into requests.

    Args:
        receiver: Gets them.
        limit: Bytes of a request's line and headers at most; those of trailers count, too.
    """

    def __init__(self, receiver: Receiver, limit: int) -> None:
        self._receiver = receiver
        self._limit = limit
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._size = 0  # bytes of the head, and of trailers
        self._unproductive = 0  # bytes since there was a piece of a body, or the end of a request
        self._progressed = False
        self._left = 0  # bytes of a body of known length that are still to come
        self._upgrade = False
        self._request: Request | None = None
        self.ended = False  # the last request of this connection has come
        self._parser: Any = httptools.HttpRequestParser(self)

    def feed(self, data: memoryview) -> int:
        """Parse a part of ``data``.

        Returns:
            How many bytes of it were parsed.

        Raises:
            RequestError: It is not HTTP, could be read in two ways, or has too large a head.
        """
        size = min(len(data), max(_SLICE, min(self._left, _BODY_SLICE)))
        self._progressed = False
        try:
            self._parser.feed_data(data[:size])
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade()
            return int(upgrade.args[0])
        except httptools.HttpParserError as error:
            if self.ended:
                return len(data)
            cause = error.__context__
            raise cause if isinstance(cause, RequestError) else RequestError(400, _INVALID) from None
        self._unproductive = 0 if self._progressed else self._unproductive + size
        if self._unproductive > self._limit:
            raise self._too_large()
        return size

    def close(self) -> None:
        """Let go of what refers to this parser, and of the request that is coming."""
        self._request = self._parser = None

    def _ignore_upgrade(self) -> None:
        """Read the same head once more without the wish for another protocol: its body follows."""
        headers = {name: value for name, value in self._headers.items() if name != b"connection"}
        lines = b"".join(b"%s: %s\r\n" % pair for pair in headers.items())
        if not self._request_keeps:
            lines += b"connection: close\r\n"
        head = b"%s %s HTTP/%s\r\n%s\r\n" % (
            self._parser.get_method(),
            self._url,
            self._parser.get_http_version().encode(),
            lines,
        )
        self._upgrade = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head)

    @property
    def _request_keeps(self) -> bool:
        return b"close" not in self._headers.get(b"connection", b"").lower()

    def _too_large(self) -> RequestError:
        return RequestError(431, f"the request's line and headers are larger than {self._limit} bytes")

    # ---- callbacks of the parser -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """httptools: the first byte of a request; forget the one before."""
        self._url = b""
        self._headers = {}
        self._size = 0
        self._progressed = True
        self._receiver.request_started()

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the request's target; a long one comes in several."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or one that trails a body in chunks."""
        self._size += len(name) + len(value) + 4
        if self._size > self._limit:
            raise self._too_large()
        if self._request is not None:
            return
        name = name.lower()
        if name in READ_HEADERS:
            if name in _ONCE and name in self._headers:
                raise RequestError(400, f"duplicate header {name.decode()}")
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """httptools: the empty line after the headers.

        Raises:
            RequestError: 400 for a method, version or header that is not supported, 431 for too large a head.
        """
        parser, headers = self._parser, self._headers
        if self._size + len(self._url) > self._limit:
            raise self._too_large()
        method = parser.get_method().decode()
        if parser.should_upgrade():
            if method == "CONNECT":
                raise RequestError(400, "CONNECT is not supported")
            self._upgrade = True
            return
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise RequestError(400, f"HTTP/{version} is not supported")
        if b"host" not in headers and version == "1.1":
            raise RequestError(400, "missing header host")
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise RequestError(400, "Transfer-Encoding: only chunked is supported")
        keep_alive = version == "1.1" and parser.should_keep_alive()
        self._request = Request(method, _path(self._url), headers, keep_alive)
        self._left = int(headers.get(b"content-length", 0))
        self._receiver.head_received(self._request)

    def on_body(self, data: bytes) -> None:
        """httptools: the next piece of the body."""
        self._progressed = True
        self._left -= len(data)
        assert self._request is not None
        self._receiver.body_received(self._request, data)

    def on_message_complete(self) -> None:
        """httptools: the end of the request, unless it asked for another protocol (upgrade)."""
        if self._upgrade:
            return
        request, self._request = self._request, None
        assert request is not None
        self._progressed = True
        self._left = 0
        self.ended = not request.keep_alive
        self._receiver.request_complete(request)


def _path(url: bytes) -> str:
    if not url.startswith(b"/"):
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            pass  # ``*``
    path = url.partition(b"?")[0].partition(b"#")[0].decode("ascii")
    return urllib.parse.unquote(path) if "%" in path else path

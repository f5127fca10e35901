"""One client's HTTP connection: its requests in their order, the answers to them, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque

from kaptain_magics.serving.http.answers import Answer
from kaptain_magics.serving.http.http_requests import Request, RequestParser
from kaptain_magics.serving.http.owner import Owner
from kaptain_magics.serving.protocol.limits import too_large
from kaptain_magics.serving.protocol.protocol_errors import RequestError, refusal

logger = logging.getLogger("kaptain.serving")

LINGER = 1.0  # seconds in which a client may still send after its connection began to close
_SLOWEST = 16 * 1024  # bytes a second that a request must come with after its first seconds
_QUEUED = 32  # requests that may wait behind the one in work; beyond, nothing is read
_EARLY = 64 * 1024  # bytes of a body that are read before its request is its turn
_NEVER = float("inf")


class Connection(asyncio.Protocol):
    """One client.

    Its states, each with what ``expire`` does at its deadline: new, or reading a request (``_partial``): 408, unless a
    body comes fast enough; answering (``_current``): no deadline; stuck, the client takes nothing: abort; idle: close.
    While it answers, further requests may be read (pipelining): they wait in ``_waiting``. Once ``_ended`` is set,
    nothing is answered any more, and what still comes is dropped for ``LINGER`` seconds.

    Args:
        server: The server that it belongs to.
        private: Whether it came in through the private socket, which stays open while the public one is released.

    Attributes:
        deadline: Time of the loop at which ``expire`` is due.
    """

    def __init__(self, server: Owner[Connection], private: bool) -> None:
        self.private = private
        self.deadline = _NEVER
        self._server = server
        self._loop = server.loop
        self._limits = server.limits
        self._transport: asyncio.Transport | None = None
        self._parser: RequestParser | None = RequestParser(self, server.limits.header)
        self._unparsed = bytearray()  # what came while nothing was read
        self._used = False  # a request has come
        self._partial = False  # a request has begun to come and is not whole yet
        self._incoming: Request | None = None  # the request whose body is coming
        self._waiting: deque[Request | Answer] = deque()
        self._current: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._paused = False  # nothing is read
        self._stuck = False  # the client does not take its answers
        self._last = False  # no further request is taken
        self._ended = False  # nothing is answered any more
        self._arrived = 0  # bytes since the deadline was set

    # ---- what others ask ---------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no request is being read or answered."""
        return self._current is None and not self._partial and not self._waiting and not self._ended

    @property
    def in_flight(self) -> int:
        """How many requests came and are not answered yet."""
        return len(self._waiting) + (self._current is not None)

    @property
    def incoming(self) -> Request | None:
        """The request whose body the client is free to send."""
        return None if self._paused else self._incoming

    @property
    def closing(self) -> bool:
        """Whether the connection ends after its next answer."""
        return self._server.closing or (self._server.released and not self.private)

    def end(self) -> None:
        """Close after the answers in flight, or after the next one, or when no request comes."""
        self._loop.call_later(LINGER, self._close_idle)

    @property
    def moved(self) -> bool:
        """Whether its requests are another server's now."""
        return self._server.followed and (self._server.leaving or not self.private)

    def move(self) -> asyncio.Task[None] | None:
        """Leave what is not whole yet to the server's successor; returns the task of what is in work here."""
        task, request = self._task, self._current
        if task is not None and request is not None and not request.whole:
            task.cancel()
            self._start(request)
            return None
        return task

    def detach(self) -> socket.socket:
        """Return the client's socket, for another process to serve; only of an idle connection."""
        assert self.idle
        assert self._transport is not None
        taken = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
        self.abort()
        return taken

    def abort(self) -> None:
        """Close at once and drop what was not sent yet; other states close after the last answer."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def heading(self) -> bool:
        """Whether nothing but a part of a request's head came since the last answer."""
        return self._partial and self._incoming is None and not self.in_flight and not self._ended

    def evict(self) -> None:
        """Make room for another connection; only where no request is in flight."""
        self._partial = False  # it has had its time
        self._close()

    def expire(self) -> None:
        """Do what is due at the deadline of the connection's state."""
        self.deadline = _NEVER
        if self._stuck:
            self.abort()
        elif self._incoming is not None and self._arrived >= _SLOWEST * self._limits.read_seconds:
            self._await_data()
        elif self._partial or not self._used:
            self.refuse(RequestError(408, "the request did not arrive in time"))
        elif self.idle:
            self._close()

    # ---- called by the transport -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of streams, always
        """Take the connection, or refuse it when there are too many."""
        self._transport = transport
        self._await_data()
        if not self._server.admit(self):
            self._partial = True  # what it asks is not read: it shall not destroy the answer
            self.refuse(RequestError(503, "too many connections", ((b"retry-after", b"1"),)))
            return
        self._server.idle[self] = None
        if self.closing:  # the kernel had made it before the socket was closed
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget the connection, and what it asked."""
        self._ended = True
        self.deadline = _NEVER
        if self._parser is not None:
            self._parser.close()
        self._parser = self._transport = self._incoming = None
        self._drop_waiting()
        self._unparsed.clear()
        if self._task is not None:
            self._task.cancel()
        self._task = self._current = None
        self._server.lost(self)

    def eof_received(self) -> bool:
        """The client sends no more; it may still wait for answers."""
        if self._ended or not self.in_flight or self._partial:
            return False
        self._last = True
        return True

    def data_received(self, data: bytes) -> None:
        """Parse what came, or keep it while enough is in work."""
        self._arrived += len(data)
        if self._ended or self._last:
            return
        if self._paused:
            self._unparsed += data
        else:
            self._parse(data)

    def pause_writing(self) -> None:
        """asyncio: the client reads too slowly and the send buffer is full; it gets ``read_seconds`` to go on."""
        self._stuck = True
        self.deadline = self._loop.time() + self._limits.read_seconds

    def resume_writing(self) -> None:
        """asyncio: the send buffer has room again; continue with the requests that wait."""
        self._stuck = False
        self.deadline = _NEVER  # until the next request, or the pause after this one
        if self._current is None and not self._ended:
            self._next()

    # ---- called by the parser ----------------------------------------------------------------------------------

    def request_started(self) -> None:
        """Start the clock for the head; the connection is not idle any more."""
        self._partial = self._used = True
        self._server.idle.pop(self, None)
        if self._current is None:
            self._await_data()

    def head_received(self, request: Request) -> None:
        """Answer the request, or let it wait for the ones before it (pipelining)."""
        self._incoming = request
        request.budget = self._server.budget
        if request.expects:
            request.on_read = self._send_continue
        if self._current is None and not self._stuck:
            self._start(request)
        else:
            self._waiting.append(request)

    def body_received(self, request: Request, data: bytes) -> None:
        """Keep a piece of the body within the limit; stop reading where an earlier request is still in work."""
        request.add(data)
        if request.size > self._limits.body:
            if request in self._waiting or request is self._current:
                request.fail(too_large(self._limits.body))
            else:  # it is answered already
                self._close()
        elif request.size > _EARLY and request in self._waiting:
            self._pause()

    def request_complete(self, request: Request) -> None:
        """Stop the request's clock; where nothing waits, the connection becomes idle or is closed."""
        self._incoming = None
        self._partial = False
        self._last = not request.keep_alive
        if not self._stuck:
            self.deadline = _NEVER
        request.complete()
        if self._current is None and not self._waiting:
            self._rest()

    # ---- reading -----------------------------------------------------------------------------------------------

    def _parse(self, data: bytes | bytearray) -> None:
        view, offset = memoryview(data), 0
        try:
            while offset < len(view) and not self._ended and not self._last and self._parser is not None:
                if len(self._waiting) >= _QUEUED:
                    self._pause()
                if self._paused:
                    self._unparsed += view[offset:]
                    return
                offset += self._parser.feed(view[offset:])
        except RequestError as error:
            self.refuse(error)

    def _pause(self) -> None:
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        data, self._unparsed = self._unparsed, bytearray()
        self._parse(data)
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _await_data(self) -> None:
        self._arrived = 0
        if not self._stuck:
            self.deadline = self._loop.time() + self._limits.read_seconds

    def _send_continue(self, request: Request) -> None:
        """Ask the client for a body that it holds back until then (``Expect: 100-continue``)."""
        if not request.size and self._transport is not None and not self._transport.is_closing():
            request.expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # ---- answering ---------------------------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        self._current = request
        self._task = self._loop.create_task(self._work(request))

    async def _work(self, request: Request) -> None:
        try:
            answer = await self._server.answer(self, request)
        except Exception as error:
            refused = refusal(error)
            answer = Answer.of(refused)
            del refused  # with its traceback it would keep this frame, and be kept by it
        finally:
            moved = self._current is request and self._task is not asyncio.current_task()  # it goes on elsewhere
            if not moved and request.release():
                self._server.trim_soon()
        self._current = self._task = None
        if self._transport is None or self._ended:
            return
        if not request.whole:
            request.drop()
        closing = self.closing and not self._waiting
        keep = request.keep_alive and not closing and not (request.expects and not request.whole)
        keep = keep and not answer.closes
        self._write(answer, keep, request.method == "HEAD")
        if self._server.access_log:
            logger.info('%s "%s %s" %d', self._peer(), request.method, request.path, answer.status)
        if not keep:
            self._close()
        elif not self._stuck:
            self._next()

    def _next(self) -> None:
        """Go on with the next request, or wait for one."""
        if self._waiting:
            upcoming = self._waiting.popleft()
            if isinstance(upcoming, Answer):
                self._write(upcoming, False, False)
                self._close()
                return
            self._start(upcoming)
        elif self._last:
            self._close()
            return
        elif self._partial:
            self._await_data()
        else:
            self._rest()
        if self._paused and len(self._waiting) < _QUEUED // 2:
            self._resume()

    def _rest(self) -> None:
        """Nothing is asked: the client may come back for a while."""
        self.deadline = self._loop.time() + self._limits.idle_seconds
        self._server.idle[self] = None

    def _write(self, answer: Answer, keep: bool, head_only: bool) -> None:
        assert self._transport is not None
        pieces = answer.pieces(self._server.date, keep, head_only)
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)

    def refuse(self, error: RequestError) -> None:
        """Answer what is no request, after the requests before it, and close."""
        if self._ended:
            return
        self._last = True
        broken, self._incoming = self._incoming, None
        if broken is not None and broken is self._current:
            self._current = None
            if self._task is not None:
                self._task.cancel()
                self._task = None
        elif broken is not None and broken in self._waiting:
            self._waiting.remove(broken)
            broken.drop()
        elif broken is not None:  # it is answered already
            self._close()
            return
        self._waiting.append(Answer.of(error))
        if self._current is None and not self._stuck:
            self._next()

    # ---- the end -----------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Close; where a client is still sending, leave it a moment to do so.

        The kernel drops what it has not delivered yet when a socket is closed on which something is unread.
        """
        if self._ended or self._transport is None:
            return
        self._ended = True
        self.deadline = _NEVER
        self._server.idle.pop(self, None)
        self._drop_waiting()
        self._unparsed.clear()
        if not self._partial and not self._paused:
            self._transport.close()
            return
        if self._paused:
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(LINGER, self._transport.close)

    def _drop_waiting(self) -> None:
        for request in self._waiting:
            if isinstance(request, Request):
                request.drop()
        self._waiting.clear()

    def _close_idle(self) -> None:
        if self.idle and self.closing:
            self._close()

    def _peer(self) -> str:
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "-"

"""HTTP connections on uvicorn's protocol: time limits, the protocol's errors, and an end that loses no request."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from email.utils import formatdate
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from kaptain_magics.serving.accepting import Acceptor
from kaptain_magics.serving.errors import error_body
from kaptain_magics.serving.limits import Limits

_SLOWEST = 16 * 1024  # bytes a second that a request must come with after its first seconds
_LINGER = 1.0  # seconds in which an idle connection may still send a request after its server began to close


class _Gentle:
    """A transport whose end does not destroy an answer that was given before the whole request had come.

    The kernel drops what it has not delivered yet when a socket is closed on which something is unread.

    Args:
        transport: The transport.
        connection: Whose it is.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport, self._connection = transport, connection
        self.ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing is answered any more."""
        return self.ended or self._transport.is_closing()

    def close(self) -> None:
        """Close, or say that this was all and leave the client a moment to end its request."""
        if self.is_closing():
            return
        self.ended = True
        if not self._connection.hears:
            self._transport.close()
            return
        self._transport.resume_reading()
        self._transport.write_eof()
        self._connection.loop.call_later(_LINGER, self._transport.close)


class Connection(HttpToolsProtocol):
    """One client.

    Args:
        server: The server that it belongs to.
        private: Whether it came in through the private socket, which stays open while the public one is released.
    """

    def __init__(self, server: HttpServer, private: bool) -> None:
        super().__init__(server.config, server.state, {})
        self.private = private
        self._server = server
        self._limits = server.limits
        self._reading = True  # a request is coming in, or the first one is awaited
        self._head = 0  # bytes of the request's head so far
        self._arrived = 0  # bytes since the timer was set
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take the connection, or refuse it when there are too many."""
        super().connection_made(transport)
        self.transport = _Gentle(transport, self)  # type: ignore[assignment]
        self._server.connections.add(self)
        if len(self._server.connections) > self._limits.connections:
            self._refuse(503, "too many connections")
        else:
            self._watch()
            if self.closing:  # the kernel had made it before the socket was closed
                self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._unwatch()
        self.resume_writing()
        super().connection_lost(exc)
        self._server.lost(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a request that is not whole yet must come within its time."""
        if self.transport.is_closing():
            return  # it is answered already
        self._arrived += len(data)
        self._head += len(data)
        super().data_received(data)
        if self._reading and self._head > self._limits.header:
            self._refuse(431, f"the request's head is larger than {self._limits.header} bytes")
        elif self._reading and self._timer is None and not self.transport.is_closing():
            self._watch()
        elif not self._reading and self._timer is not None:
            self._unwatch()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._reading = True

    def on_headers_complete(self) -> None:
        """The request's head is whole."""
        super().on_headers_complete()
        self._head = -(1 << 62)  # its body has another limit
        if self.closing:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        self._reading = False
        self._head = 0

    def pause_writing(self) -> None:
        """The client does not take its answer."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(self._limits.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client takes its answer again."""
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        if self.flow is not None:
            super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, msg)

    @property
    def hears(self) -> bool:
        """Whether a request has begun to come in and is not whole yet."""
        return self._reading and bool(self._head)

    @property
    def idle(self) -> bool:
        """Whether no request is being read or answered."""
        return (self.cycle is None or self.cycle.response_complete) and not self._head

    @property
    def closing(self) -> bool:
        """Whether the connection ends after its next answer."""
        return self._server.closing or (self._server.released and not self.private)

    def end(self) -> None:
        """Close after the answer in flight, or after the next one, or when none comes."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        self.loop.call_later(_LINGER, self._close_idle)

    def _close_idle(self) -> None:
        if self.idle and self.closing and not self.transport.is_closing():
            self.transport.close()

    def _watch(self) -> None:
        self._arrived = 0
        self._timer = self.loop.call_later(self._limits.read_seconds, self._late)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._head < 0 and self._arrived >= _SLOWEST * self._limits.read_seconds:
            self._watch()
        else:
            self._refuse(408, "the request did not arrive in time")

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = error_body(message)
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


class HttpServer:
    """Accepts connections for an application, on any number of sockets.

    Args:
        app: The ASGI application.
        limits: Bounds.
        access_log: Whether every request is logged.
    """

    def __init__(self, app: Any, limits: Limits, access_log: bool = False) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self.limits = limits
        self.config = Config(
            app,
            http=HttpToolsProtocol,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=access_log,
            interface="asgi3",
            timeout_keep_alive=int(limits.idle_seconds),
        )
        self.config.load()
        self.state = ServerState()
        self.connections: set[Connection] = set()
        self.released = False
        self.closing = False
        self._loop = asyncio.get_running_loop()
        self._acceptors: list[tuple[Acceptor, bool]] = []
        self._empty = asyncio.Event()
        self._tick()

    def listen(self, listener: socket.socket, private: bool = False) -> None:
        """Accept on a listening socket. It stays open when it is released, for whoever shares it."""
        make = functools.partial(Connection, self, private)

        async def welcome(client: socket.socket) -> None:
            await self._loop.connect_accepted_socket(make, client)

        acceptor = Acceptor(listener, welcome)
        acceptor.start()
        self._acceptors.append((acceptor, private))
        if not private:
            self.released = False

    def release(self) -> None:
        """Accept on the public sockets no more; their connections end after their next answer."""
        self.released = True
        for acceptor, private in self._acceptors:
            if not private:
                acceptor.stop()
        self._acceptors = [entry for entry in self._acceptors if entry[1]]
        for connection in list(self.connections):
            if not connection.private:
                connection.end()

    async def drain(self, seconds: float) -> bool:
        """Close the listening sockets and answer everybody who got through to them.

        Args:
            seconds: How long to wait for it at most.

        Returns:
            Whether everything was answered.
        """
        self.closing = True
        for acceptor, _ in self._acceptors:
            acceptor.close()
        for connection in list(self.connections):
            connection.end()
        for acceptor, _ in self._acceptors:
            if acceptor.tasks:
                await asyncio.wait(acceptor.tasks, timeout=seconds)
        until = self._loop.time() + seconds
        while self.connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), until - self._loop.time())
            except TimeoutError:
                for connection in list(self.connections):
                    connection.transport.abort()
                return False
        return True

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _tick(self) -> None:
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._loop.call_later(1.0, self._tick)

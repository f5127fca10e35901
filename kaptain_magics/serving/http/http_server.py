"""The HTTP server: listening sockets, the connections that came from them, and an end that loses no request."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import socket
import threading
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from kaptain_magics.serving.http.accepting import Acceptor
from kaptain_magics.serving.http.answers import Answer
from kaptain_magics.serving.http.budget import Budget, Heap, too_many
from kaptain_magics.serving.http.connections import Connection
from kaptain_magics.serving.http.http_requests import Request
from kaptain_magics.serving.http.successor import Successor
from kaptain_magics.serving.protocol.limits import Limits

_TRIM_DELAY = 0.5  # seconds from the end of a large request until its memory is given back to the system
_SLOW = 1024 * 1024  # bytes a second; a large body that comes slower gives way to requests that need its memory
_TIMEOUT = 10.0  # seconds for the loop to find such a body
_TICK = 0.5  # seconds between two looks at the deadlines


class HttpServer:
    """Accepts connections for an application, on any number of sockets.

    Args:
        app: Answers a request.
        limits: Bounds.
        access_log: Whether every request is logged.

    Attributes:
        idle: The connections without a request, the longest idle one first.
        date: The header line of that name.
        budget: What large requests share.
        successor: Who answers what comes on connections that are released.
        leaving: Whether private connections are released, too.
    """

    def __init__(self, app: Callable[[Request], Awaitable[Answer]], limits: Limits, access_log: bool = False) -> None:
        self.app = app
        self.limits = limits
        self.access_log = access_log
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.idle: dict[Connection, None] = {}
        self.date = b""
        self.released = False
        self.leaving = False
        self.closing = False
        self.successor: Successor | None = None
        self._acceptors: list[tuple[Acceptor, bool]] = []
        self.budget = Budget(limits.memory, self._make_room)
        self._thread = threading.get_ident()
        self._heap = Heap()
        self._trim_planned = False
        self._taking: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._tick()

    async def answer(self, connection: Connection, request: Request) -> Answer:
        """Answer a request, or have it answered by the server that has the connection's requests now."""
        if self.successor is not None and connection.moved:
            return await self.successor.answer(request)
        return await self.app(request)

    @property
    def followed(self) -> bool:
        """Whether another server answers what comes on released connections."""
        return self.successor is not None

    @property
    def finishing(self) -> int:
        """How many requests are in work that came before the connections were released."""
        return sum(not task.done() for task in self._finishing)

    def listen(self, listener: socket.socket, private: bool = False) -> None:
        """Accept on a listening socket. It stays open when it is released: another process may share it."""
        acceptor = Acceptor(listener, functools.partial(self._serve_connection, private))
        acceptor.start()
        self._acceptors.append((acceptor, private))
        if not private:
            self.released = False
            self.successor = None

    def take(self, client: socket.socket, early: bytes = b"") -> None:
        """Serve a connection that another process accepted.

        Args:
            client: The connection.
            early: What its client has sent and no server has read.
        """
        client.setblocking(False)
        task = self.loop.create_task(self._serve_connection(False, client, early))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _serve_connection(self, private: bool, client: socket.socket, early: bytes = b"") -> None:
        _, connection = await self.loop.connect_accepted_socket(lambda: Connection(self, private), client)
        if early:
            connection.data_received(early)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; where there are too many, the one that has been idle longest gives way."""
        self.connections.add(connection)
        if len(self.connections) <= self.limits.connections:
            return True
        longest = next(iter(self.idle), None)
        if longest is None:
            heading = (c for c in self.connections if c.heading)
            longest = min(heading, key=lambda c: c.deadline, default=None)
        if longest is None:
            return False
        longest.evict()
        return True

    def _make_room(self) -> bool:
        """Refuse the slowest of the large bodies that are coming, if one is slow; may be called from any thread."""
        if threading.get_ident() == self._thread:
            return self._refuse_slowest()
        done: concurrent.futures.Future[bool] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(self._refuse_slowest()))
        return done.result(_TIMEOUT)

    def _refuse_slowest(self) -> bool:
        coming = [c.incoming for c in self.connections if c.incoming is not None]
        slowest = min(coming, key=lambda request: request.pace, default=None)
        if slowest is None or slowest.pace >= _SLOW:
            return False
        slowest.fail(too_many("the request came too slowly while others needed its memory: try again"))
        self.trim_soon()
        return True

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended; ``drain`` waits for the last one."""
        self.connections.discard(connection)
        self.idle.pop(connection, None)
        if not self.connections:
            self._empty.set()

    def trim_soon(self) -> None:
        """Give memory back to the system soon: a large request has ended."""
        if not self._trim_planned:
            self._trim_planned = True
            self.loop.call_later(_TRIM_DELAY, self._trim)

    def _trim(self) -> None:
        self._trim_planned = False
        self.loop.run_in_executor(None, self._heap.trim)

    async def release(self, successor: Successor, leaving: bool) -> None:
        """Accept on the public sockets no more and give their connections to another server.

        Connections on which nothing is asked change hands as they are. On the others, what this server works on is
        answered by it; what is not whole yet is answered by the other one; then they end.

        Args:
            successor: The other server.
            leaving: Whether this one ends: then requests of private connections are the other one's, too.
        """
        self.successor, self.released, self.leaving = successor, True, leaving
        public = [acceptor for acceptor, private in self._acceptors if not private]
        self._acceptors = [entry for entry in self._acceptors if entry[1]]
        for acceptor in public:
            acceptor.stop()
        coming = self._taking.union(*(acceptor.tasks for acceptor in public))
        if coming:
            await asyncio.wait(coming)
        moving = [connection for connection in self.connections if connection.moved]
        tasks = [connection.move() for connection in moving]
        self._finishing = {task for task in tasks if task is not None}
        idle = [connection for connection in moving if connection.idle and not connection.private]
        for client, early in await successor.take([(connection.detach(), b"") for connection in idle]):
            self.take(client, early)
        for connection in moving:
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
        coming = self._taking.union(*(acceptor.tasks for acceptor, _ in self._acceptors))
        if coming:
            await asyncio.wait(coming, timeout=seconds)
        until = self.loop.time() + seconds
        while self.connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), until - self.loop.time())
            except TimeoutError:
                for connection in list(self.connections):
                    connection.abort()
                return False
        return True

    def _tick(self) -> None:
        """Renew the date, and look whose deadline is over."""
        self.date = b"date: %s\r\n" % formatdate(usegmt=True).encode()
        now = self.loop.time()
        for connection in [c for c in self.connections if c.deadline < now]:
            connection.expire()
        self.loop.call_later(_TICK, self._tick)

"""The router: shares the requests of one endpoint between two servers.

It runs only while there is a canary. It takes over the listening socket that the server had, and gives it back by
leaving: the server accepts again before the router stops.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from kaptain_magics.serving.control import hand_over, taken
from kaptain_magics.serving.http.accepting import Acceptor
from kaptain_magics.serving.http.http1 import CHUNK, Head, read_body, read_head
from kaptain_magics.serving.protocol.protocol_errors import RequestError, error_body
from kaptain_magics.serving.router.streams import Backend, Client, close

logger = logging.getLogger("kaptain.serving")

_IDLE = 75.0  # seconds that a client's connection is kept open without a request
_READ = 30.0  # seconds for the next piece of a request
_SMALL = 1024 * 1024  # bytes of a body up to which a request can be sent again when its server died
_LINGER = 1.0  # seconds in which an idle connection may still send a request after the router began to close
_PHRASES = {400: b"Bad Request", 431: b"Request Header Fields Too Large", 503: b"Service Unavailable"}


class RouterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A router's options.

    Attributes:
        handover: Control socket of the server whose listening socket is taken over; empty to open one.
        host: Address to listen on where none is taken over.
        port: Port to listen on where none is taken over.
        control: Path of the router's own control socket.
        state: File that is locked while the router lives; empty for none.
        failure: File that gets the reason (``core.failures``) where the router ends by itself; empty for none.
        backends: Private sockets of the servers: the stable one, then the canary.
        percent: Percent of requests for the canary.
        drain_seconds: Seconds for requests in flight when the router ends.
        connections: Clients at a time; beyond, the one that has been idle longest gives way.
        read_seconds: Seconds for a request's head, from its first byte.
    """

    control: str
    backends: tuple[str, ...]
    handover: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    state: str = ""
    failure: str = ""
    percent: int = 0
    drain_seconds: float = 30.0
    connections: int = 2_000
    read_seconds: float = 30.0


class Router:
    """Accepts clients and passes their requests on.

    Args:
        options: What it is started with.
        listeners: The public listening sockets.
    """

    def __init__(self, options: RouterOptions, listeners: Sequence[socket.socket]) -> None:
        self._listeners = listeners
        self._drain_seconds = options.drain_seconds
        self._connections = options.connections
        self._read_seconds = options.read_seconds
        self._backends = [Backend(path) for path in options.backends]
        self._percent = options.percent
        self._share = 50  # so that the canary's requests are spread evenly
        self._acceptors: list[Acceptor] = []
        self._clients: dict[asyncio.StreamWriter, Client] = {}
        self._idle: dict[asyncio.StreamWriter, None] = {}  # those without a request, the longest idle one first
        self._tasks: set[asyncio.Task[None]] = set()  # of clients that were handed over
        self._closing = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Route until a signal ends it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        await self._stop.wait()
        self._closing = True
        for acceptor in self._acceptors:
            acceptor.close()
        until = loop.time() + self._drain_seconds
        await asyncio.sleep(_LINGER)
        for writer, client in list(self._clients.items()):
            if not client.busy:
                writer.close()
        tasks = self._tasks.union(*(acceptor.tasks for acceptor in self._acceptors))
        if tasks:
            await asyncio.wait(tasks, timeout=until - loop.time())

    async def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command: ``accept``, ``route``, ``take``, ``retire`` or ``status``."""
        match command.get("do"):
            case "accept" if not self._acceptors:
                self._acceptors = [Acceptor(listener, self._serve_connection) for listener in self._listeners]
                for acceptor in self._acceptors:
                    acceptor.start()
            case "route":
                old, self._backends = self._backends, [Backend(path) for path in command["backends"]]
                self._percent = int(command["percent"])
                for backend in old:
                    backend.close()
            case "take":
                for client, early in taken(command):
                    client.setblocking(False)
                    task = asyncio.create_task(self._serve_connection(client, early))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            case "retire":
                await self._retire(Path(command["to"]["control"]))
        return {"ready": True, "accepting": bool(self._acceptors), "percent": self._percent}

    async def _retire(self, successor: Path) -> None:
        """Give the clients to a server: those without a request as they are; the others get one more answer."""
        self._closing = True
        for acceptor in self._acceptors:
            acceptor.stop()
        for listener in self._listeners:  # the server has its own copies
            listener.close()
        self._acceptors, accepted = [], self._acceptors
        self._tasks.update(*(acceptor.tasks for acceptor in accepted))
        await asyncio.sleep(0.01)  # what was just accepted becomes a client
        moving = await asyncio.gather(*[c.give_up() for c in self._clients.values() if not c.busy])
        left = await asyncio.to_thread(hand_over, successor, [pair for pair in moving if pair is not None])
        for client, early in left:
            self._tasks.add(asyncio.create_task(self._serve_connection(client, early)))
        self._stop.set()

    def _choose(self) -> list[Backend]:
        """Return the server for the next request, then the others in case that it is gone."""
        if len(self._backends) < 2:
            return self._backends
        self._share += self._percent
        stable, canary = self._backends
        if self._share >= 100:
            self._share -= 100
            return [canary, stable]
        return [stable, canary]

    async def _serve_connection(self, accepted: socket.socket, early: bytes = b"") -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        if early:
            reader.feed_data(early)
        task = asyncio.current_task()
        assert task is not None
        self._clients[writer] = client = Client(reader, writer, task)
        try:
            self._make_room()
            await self._serve(client)
        except RequestError as error:
            _refuse(writer, error)
        except asyncio.CancelledError:
            if not client.given_up:
                raise
            return  # another process serves it now
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # the client went away, or is too slow
        finally:
            del self._clients[writer]
            self._idle.pop(writer, None)
            if not client.given_up:
                await close(writer)

    def _make_room(self) -> None:
        """Close the connection that has been idle longest where there are too many.

        Raises:
            RequestError: None is idle.
        """
        if len(self._clients) <= self._connections:
            return
        longest = next(iter(self._idle), None)
        if longest is None:
            raise RequestError(503, "too many connections", ((b"retry-after", b"1"),))
        del self._idle[longest]
        longest.close()

    async def _serve(self, client: Client) -> None:
        loop = asyncio.get_running_loop()

        def on_start() -> None:
            client.busy = True
            self._idle.pop(client.writer, None)
            deadline.reschedule(loop.time() + self._read_seconds)

        while True:
            self._idle[client.writer] = None
            async with asyncio.timeout(None) as deadline:
                head = await read_head(client.reader, idle=_IDLE, on_start=on_start)
            if head is None:
                return
            if head.waits:
                client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            keep_alive = await self._forward(head, client.reader, client.writer)
            client.busy = False
            if not keep_alive:
                return

    async def _forward(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request on and its answer back; returns whether the client's connection goes on."""
        if head.chunked or head.length > _SMALL:
            return await self._stream(head, reader, writer)
        body = b""
        async with asyncio.timeout(_READ):
            body = await reader.readexactly(head.length)
        request = head.bytes(False) + body
        for _ in range(3):  # the servers may be exchanged meanwhile
            for backend in self._choose():
                for fresh in (False, True):
                    try:
                        backend_reader, backend_writer, used = await backend.connect(fresh)
                    except OSError:
                        break
                    try:
                        backend_writer.write(request)
                        answer = await read_head(backend_reader, request=False)
                    except (OSError, RequestError):
                        answer = None
                    if answer is not None:
                        return await self._answer(head, answer, backend, (backend_reader, backend_writer), writer)
                    backend_writer.close()
                    if not used:
                        break
        raise RequestError(503, "no revision of the model answers")

    async def _stream(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass a request on whose body is not kept."""
        for backend in self._choose():
            try:
                backend_reader, backend_writer, _ = await backend.connect(True)
            except OSError:
                continue
            pump = asyncio.create_task(_pump(head, reader, backend_writer))
            answer: Head | None = None
            try:
                answer = await read_head(backend_reader, request=False)
                if answer is None:
                    raise RequestError(503, "the server closed the connection")
                if not pump.done():  # refused before it was read: the rest of the body is of no use
                    answer = answer._replace(close=True)
                    head = head._replace(close=True)
                return await self._answer(head, answer, backend, (backend_reader, backend_writer), writer)
            finally:
                pump.cancel()
                with suppress(asyncio.CancelledError, OSError, EOFError, TimeoutError, RequestError):
                    await pump
                if answer is None:
                    backend_writer.close()
        raise RequestError(503, "no revision of the model answers")

    async def _answer(
        self,
        head: Head,
        answer: Head,
        backend: Backend,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        writer: asyncio.StreamWriter,
    ) -> bool:
        backend_reader, backend_writer = connection
        close = head.close or self._closing
        if head.first.startswith(b"HEAD "):
            answer = answer._replace(length=0, chunked=False)
        try:
            start = answer.bytes(close)
            if not answer.chunked and answer.length <= CHUNK:
                writer.write(start + await backend_reader.readexactly(answer.length))
                answer = answer._replace(length=0)
            else:
                writer.write(start)
            async for data in read_body(backend_reader, answer):
                writer.write(data)
                async with asyncio.timeout(_READ):
                    await writer.drain()
            await writer.drain()
        except BaseException:
            backend_writer.close()
            raise
        if answer.close or backend not in self._backends:
            backend_writer.close()
        else:
            backend.give_back(backend_reader, backend_writer)
        return not close


async def _pump(head: Head, reader: asyncio.StreamReader, backend_writer: asyncio.StreamWriter) -> None:
    backend_writer.write(head.bytes(False))
    async for data in read_body(reader, head):
        backend_writer.write(data)
        async with asyncio.timeout(_READ):
            await backend_writer.drain()


def _refuse(writer: asyncio.StreamWriter, error: RequestError) -> None:
    body = error_body(error.message)
    head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    writer.write(head % (error.status, _PHRASES.get(error.status, b""), len(body)) + body)

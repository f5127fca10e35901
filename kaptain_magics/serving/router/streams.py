"""What the router holds on either side: connections of clients, and those to the servers behind it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from contextlib import suppress
from pathlib import Path

from kaptain_magics.serving.http.http1 import CHUNK
from kaptain_magics.sockets import short_path

_READ = 30.0  # seconds for what was written last
_POOLED = 20.0  # seconds that a connection to a server may be unused


class Backend:
    """A server behind the router, and the connections to it that wait for the next request."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._pool: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def connect(self, fresh: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bool]:
        """Return a connection, and whether it was used before.

        Raises:
            OSError: The server is gone.
        """
        now = asyncio.get_running_loop().time()
        while self._pool and not fresh:
            since, reader, writer = self._pool.pop()
            if now - since < _POOLED and not reader.at_eof() and not writer.is_closing():
                return reader, writer, True
            writer.close()
        with short_path(Path(self.path)) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=CHUNK)
        return reader, writer, False

    def give_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep a connection for the next request."""
        self._pool.append((asyncio.get_running_loop().time(), reader, writer))

    def close(self) -> None:
        """Close the connections that wait."""
        while self._pool:
            self._pool.pop()[2].close()


class Client:
    """A client's connection.

    Attributes:
        busy: Whether a request of it is in flight.
        given_up: Whether another process serves it by now.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        self.reader, self.writer, self._task = reader, writer, task
        self.busy = self.given_up = False

    async def give_up(self) -> tuple[socket.socket, bytes] | None:
        """Return the connection for another process to serve, and what came and was not read yet.

        ``None`` where the client has gone.
        """
        self.given_up = self.busy = True
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        self._task.cancel()
        await asyncio.wait([self._task])
        early = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(0):  # what is there comes at once
                early = await self.reader.read(CHUNK * 2)
        client = transport.get_extra_info("socket")
        given = None if transport.is_closing() else socket.socket(fileno=os.dup(client.fileno()))
        transport.abort()
        return None if given is None else (given, early)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection when what was written to it has left."""
    writer.close()
    try:
        async with asyncio.timeout(_READ):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()

"""Accepting connections so that none is forgotten when the accepting ends.

``asyncio.Server`` loses a connection that it has accepted and not yet made a transport for when it is closed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

_AT_ONCE = 64  # connections that are accepted before the loop goes on
_PAUSE = 1.0  # seconds until the next try when the process has no descriptor left


class Acceptor:
    """Accepts on a listening socket, which may be shared with other processes.

    Args:
        listener: The socket; it stays the caller's.
        handler: Handles a connection; runs as a task from the moment that the kernel gave it.
    """

    def __init__(self, listener: socket.socket, handler: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> None:
        self._listener = listener
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._on = False
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accept from now on, whenever the loop finds the socket readable."""
        self._listener.setblocking(False)
        self._on = True
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more. What was accepted is still handled; ``tasks`` are those that do it."""
        if self._on:
            self._on = False
            self._loop.remove_reader(self._listener.fileno())

    def close(self) -> None:
        """Accept no more and close the socket, after taking what the kernel holds: it would reset that."""
        self.stop()
        while self._listener.fileno() >= 0 and self._accept():
            pass
        self._listener.close()

    def _accept(self) -> bool:
        """Accept what is there; returns whether there may be more."""
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False  # another process may have been faster
            except OSError:
                if self._on:
                    self.stop()
                    self._loop.call_later(_PAUSE, self.start)
                return False
            connection.setblocking(False)
            if connection.family != socket.AF_UNIX:  # asyncio does it only where the socket's ``proto`` says TCP
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._handler(connection))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return True

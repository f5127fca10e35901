"""Commands to a server on this machine: a Unix socket that takes one JSON line and answers with one.

``{"do": "share"}`` also hands over the listening socket itself, so that a port is never closed while one server
follows another.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import orjson

from kaptain_magics.errors import ServingError
from kaptain_magics.files import Lock

Handler = Callable[[dict[str, Any]], dict[str, Any]]

_PATIENCE = 10.0  # seconds for the other side of a command


class ControlSocket:
    """Takes commands, one at a time.

    Args:
        path: The socket's path; an old one is replaced.
        handler: Answers a command.
        shared: The listening sockets to hand over.
    """

    def __init__(self, path: Path, handler: Handler, shared: Sequence[socket.socket]) -> None:
        self.listener = listen_unix(path)
        self._path = path
        self._handler = handler
        self._shared = shared

    def start(self) -> None:
        """Take commands in a thread from now on."""
        Thread(target=self._serve, name="control", daemon=True).start()

    def close(self) -> None:
        """Take commands no more."""
        self._path.unlink(missing_ok=True)
        self.listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self.answer()

    def answer(self) -> None:
        """Wait for one command and answer it. Whoever asks wrongly gets no answer."""
        connection, _ = self.listener.accept()
        with connection, suppress(OSError, ValueError, AttributeError):
            connection.settimeout(_PATIENCE)
            command = orjson.loads(read_line(connection))
            if command.get("do") == "share":
                socket.send_fds(connection, [b"{}\n"], [listener.fileno() for listener in self._shared])
            else:
                connection.sendall(orjson.dumps(self._handler(command)) + b"\n")


def read_line(connection: socket.socket) -> bytes:
    """Return one line; empty at the end."""
    line = b""
    while not line.endswith(b"\n") and (more := connection.recv(65536)):
        line += more
    return line


def ask_worker(channel: socket.socket, command: dict[str, Any]) -> dict[str, Any]:
    """Send a command to a process at the other end of a connection that stays open; it may have died."""
    try:
        channel.settimeout(_PATIENCE)
        channel.sendall(orjson.dumps(command) + b"\n")
        return dict(orjson.loads(read_line(channel)))
    except (OSError, ValueError):
        return {"ready": False, "accepting": False}


def answer_parent(channel: socket.socket, handler: Handler, at_end: Callable[[], object]) -> None:
    """Answer the commands of ``ask_worker`` in a thread; ``at_end`` is called when the asking process is gone."""

    def serve() -> None:
        with suppress(OSError):
            while line := read_line(channel):
                channel.sendall(orjson.dumps(handler(orjson.loads(line))) + b"\n")
        at_end()

    Thread(target=serve, name="control", daemon=True).start()


def listen_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket that only its owner can reach."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(1024)
    return listener


def take_listeners(path: Path, timeout: float = 10.0) -> list[socket.socket]:
    """Take over another server's listening sockets; it keeps its own copies.

    Raises:
        ServingError: It does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(b'{"do":"share"}\n')
            _, received, _, _ = socket.recv_fds(connection, 64, 16)
    except OSError as error:
        raise ServingError(f"the running server does not hand over its port: {error}", "undeploy it first") from error
    if not received:
        raise ServingError("the running server has no port to hand over", "undeploy it first")
    for descriptor in received:
        os.set_inheritable(descriptor, False)
    return [socket.socket(fileno=descriptor) for descriptor in received]


def bind(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket.

    Raises:
        ServingError: The port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        with suppress(OSError):
            listener.close()
        said = getattr(error, "strerror", None) or error
        raise ServingError(
            f"cannot listen on {host}:{port}: {said}", "name another port, or 0 for a free one"
        ) from error
    return listener


def hold_state(path: Path, port: int, stack: ExitStack) -> None:
    """Lock a server's state file until ``stack`` is closed or the process dies, and write down who it is.

    Raises:
        ServingError: Another server that lives holds it.
    """
    lock = Lock(path)
    if not lock.acquire():
        raise ServingError(f"{path} belongs to another server that lives", "undeploy it first")
    stack.callback(lock.release)
    lock.write(orjson.dumps({"pid": os.getpid(), "port": port}) + b"\n")

"""Commands to a server on this machine: a Unix socket that takes one JSON line and answers with one.

``{"do": "share"}`` also hands over the listening socket itself, so that a port is never closed while one server
follows another. ``{"do": "take"}`` comes with clients' connections, and with what each has sent and no server has read.
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
from kaptain_magics.sockets import connect_unix, listen_unix

Handler = Callable[[dict[str, Any]], dict[str, Any]]

_TIMEOUT = 10.0  # seconds for the other side of a command
_AT_ONCE = 100  # connections that are handed over with one command


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
        """Remove the socket's file and close it; a command that is being answered is answered."""
        self._path.unlink(missing_ok=True)
        self.listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self.answer()

    def answer(self) -> None:
        """Wait for one command and answer it. A malformed one gets no answer."""
        connection, _ = self.listener.accept()
        with connection, suppress(OSError, ValueError, AttributeError):
            connection.settimeout(_TIMEOUT)
            line, sockets = _receive(connection)
            command = orjson.loads(line)
            if sockets:
                command["sockets"] = sockets
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


def _receive(connection: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """Return one line, empty at the end, and the sockets that came with it."""
    line, descriptors, _, _ = socket.recv_fds(connection, 65536, _AT_ONCE)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    if line and not line.endswith(b"\n"):
        line += read_line(connection)
    return line, sockets


def _send(connection: socket.socket, command: dict[str, Any]) -> None:
    """Send a command, and the sockets in it beside it."""
    sockets = command.get("sockets", ())
    line = orjson.dumps({key: value for key, value in command.items() if key != "sockets"}) + b"\n"
    sent = socket.send_fds(connection, [line], [one.fileno() for one in sockets]) if sockets else 0
    if sent < len(line):  # else the other side may have hung up already
        connection.sendall(line[sent:])


def ask_worker(channel: socket.socket, command: dict[str, Any]) -> dict[str, Any]:
    """Send a command to a process at the other end of a connection that stays open; it may have died."""
    try:
        channel.settimeout(_TIMEOUT)
        _send(channel, command)
        return dict(orjson.loads(read_line(channel)))
    except (OSError, ValueError):
        return {"ready": False, "accepting": False}


def answer_parent(channel: socket.socket, handler: Handler, at_end: Callable[[], object]) -> None:
    """Answer the commands of ``ask_worker`` in a thread; ``at_end`` is called when the asking process is gone."""

    def serve() -> None:
        with suppress(OSError):
            while (came := _receive(channel))[0]:
                command = orjson.loads(came[0])
                if came[1]:
                    command["sockets"] = came[1]
                channel.sendall(orjson.dumps(handler(command)) + b"\n")
        at_end()

    Thread(target=serve, name="control", daemon=True).start()


def hand_over(path: Path, clients: Sequence[tuple[socket.socket, bytes]]) -> list[tuple[socket.socket, bytes]]:
    """Give clients' connections to another server; they are closed here.

    Args:
        path: Its control socket.
        clients: The connections, each with what its client has sent and no server has read.

    Returns:
        Those that it could not be asked to take.
    """
    left = list(clients)
    while left:
        batch = left[:_AT_ONCE]
        command = {
            "do": "take",
            "early": [early.decode("latin-1") for _, early in batch],
            "sockets": [client for client, _ in batch],
        }
        try:
            with connect_unix(path, _TIMEOUT) as connection:
                _send(connection, command)
                del left[:_AT_ONCE]  # it has them from now on, whatever it answers
                read_line(connection)
        except OSError:
            if left[:_AT_ONCE] == batch:
                return left
        for client, _ in batch:
            client.close()
    return []


def taken(command: dict[str, Any]) -> list[tuple[socket.socket, bytes]]:
    """Return the connections of a command ``take``."""
    early = [str(text).encode("latin-1") for text in command.get("early", ())]
    return list(zip(command.get("sockets", ()), early, strict=True))


def take_listeners(path: Path, timeout: float = 10.0) -> list[socket.socket]:
    """Take over another server's listening sockets; it keeps its own copies.

    Raises:
        ServingError: It does not answer.
    """
    try:
        with connect_unix(path, timeout) as connection:
            connection.sendall(b'{"do":"share"}\n')
            _, received, _, _ = socket.recv_fds(connection, 64, 16)
    except OSError as error:
        raise ServingError(f"the running server does not hand over its port: {error}", "deploy it again") from error
    if not received:
        raise ServingError("the running server has no port to hand over", "deploy it again")
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
        reason = getattr(error, "strerror", None) or error
        raise ServingError(
            f"cannot listen on {host}:{port}: {reason}", "name another port, or 0 for a free one"
        ) from error
    return listener


def hold_state(path: Path, port: int, stack: ExitStack) -> None:
    """Lock a server's state file until ``stack`` is closed or the process dies, and write down who it is.

    Raises:
        ServingError: Another server that lives holds it.
    """
    lock = Lock(path)
    if not lock.acquire():
        raise ServingError(f"{path} belongs to another running server", "deploy again")
    stack.callback(lock.release)
    lock.write(orjson.dumps({"pid": os.getpid(), "port": port}) + b"\n")

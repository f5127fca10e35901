"""What a client says to a worker: one line of JSON with descriptors, answered by another; see ``zygote``."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaptain_magics.errors import TargetError
from kaptain_magics.sockets import connect_unix, user_folder

SLICE = 0.1  # seconds between looks whether a start is still wanted

Cancelled = Callable[[], bool]


class StartCancelledError(TargetError):
    """A job was cancelled before it started."""

    def __init__(self) -> None:
        super().__init__("the job was cancelled before it started", "run it again")


def request_job(
    connection: socket.socket,
    request: Mapping[str, Any],
    descriptors: Sequence[int],
    cancelled: Cancelled,
    worker: int = 0,
) -> int | None:
    """Ask a worker for a job.

    Args:
        connection: The connection to the worker; closed unless there is a job.
        request: The job.
        descriptors: Its output, and perhaps a lock.
        cancelled: Asked now and then whether the job is not wanted any more. A worker that still imports is ended then.
        worker: The worker's process id, where the connection does not show it.

    Returns:
        The job's process id; ``None`` where the worker cannot fork safely.

    Raises:
        OSError: The worker has ended, and there is no job.
        StartCancelledError: The job is not wanted any more, and there is none.
    """
    try:
        pid: int | None = exchange(connection, request, descriptors, cancelled).get("pid")
    except BaseException as error:
        if isinstance(error, StartCancelledError):
            _end_import(worker or _peer(connection))
        connection.close()
        raise
    if pid is None:
        connection.close()
    else:
        connection.setblocking(True)
    return pid


def worker_folder() -> Path:
    """Return the folder of this user's workers; no other socket lies in it."""
    folder = user_folder() / "workers"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def connect(path: Path, used: bool = True) -> socket.socket | None:
    """Return a connection to a worker, or ``None`` where none listens at this path.

    Args:
        path: The worker's socket.
        used: Whether a job is wanted: the worker counts as just used then.
    """
    try:
        connection = connect_unix(path)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if used:
            os.utime(path)  # when it was used last
    return connection


def exchange(
    connection: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int], cancelled: Cancelled
) -> dict[str, Any]:
    """Send a message and return the answer.

    Raises:
        OSError: The worker has ended.
        ValueError: The answer is malformed.
        StartCancelledError: ``cancelled`` was true before the answer came.
    """
    connection.setblocking(False)
    unsent, answer = json.dumps(message).encode() + b"\n", b""
    poll = select.poll()
    while not answer.endswith(b"\n"):
        poll.register(connection, select.POLLIN | (select.POLLOUT if unsent else 0))
        state = sum(event for _, event in poll.poll(SLICE * 1000))
        if unsent and state & select.POLLOUT:
            sent = socket.send_fds(connection, [unsent], descriptors) if descriptors else connection.send(unsent)
            unsent, descriptors = unsent[sent:], ()
        elif state:
            more = connection.recv(1)  # what follows is for the process that waits for the job's end
            if not more:
                raise OSError("the worker closed the connection")
            answer += more
        elif cancelled():
            raise StartCancelledError
    return dict(json.loads(answer))


def readable(source: socket.socket | int, timeout: float) -> bool:
    """Wait until there is something to read, or the other end is closed; returns whether there is."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _peer(connection: socket.socket) -> int:
    """Return the process that listens at the other end; 0 where the system does not show it."""
    with contextlib.suppress(AttributeError, OSError):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])
    return 0


def _end_import(worker: int) -> None:
    """End a worker that still imports, perhaps for ever; one that has jobs goes on until they have ended."""
    if worker not in (0, os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(worker, signal.SIGTERM)

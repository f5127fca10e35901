"""What a worker hears and says: its side of ``protocol``, with the standard library alone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import Any


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return a client's request and the descriptors that came with it.

    Raises:
        OSError: The client has gone.
        ValueError: The request is malformed.
    """
    data, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
    try:
        while data and not data.endswith(b"\n"):
            more = connection.recv(1 << 20)
            if not more:
                break
            data += more
        request: dict[str, Any] = json.loads(data)
        if not descriptors and "do" not in request:
            raise ValueError("no file descriptor came with the request")
    except (OSError, ValueError):
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return request, descriptors


def has_hung_up(connection: socket.socket) -> bool:
    """Whether the client has gone, which must not have said anything more."""
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(10.0)


def send_answer(connection: socket.socket, answer: dict[str, Any]) -> None:
    """Answer a client, which may have gone."""
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(answer).encode() + b"\n")

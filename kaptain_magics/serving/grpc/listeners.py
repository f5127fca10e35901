"""The sockets that gRPC keeps to itself, found among this process's descriptors. Elsewhere than on Linux none is."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

_ATTACH_FILTER = 51  # SO_ATTACH_REUSEPORT_CBPF, which Python's socket does not name
_RETURN = 0x06  # BPF_RET | BPF_K
_LISTEN, _CLOSED = 10, 7  # TCP_LISTEN, TCP_CLOSE
_WAITING = struct.Struct("=B23xI")  # of tcp_info: the state, and for a listener the connections that wait for accept
_SECONDS = 2.0  # for gRPC to accept those


async def close_listeners(port: int) -> None:
    """Accept no more connections on a port, and lose none that was made.

    Another process may listen on the same port (``SO_REUSEPORT``): it gets all new connections first, then gRPC accepts
    those that wait here, since a listener that is shut down resets them.
    """
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        copies = [stack.enter_context(one.dup()) for one in _sockets(port) if _state(one)[0] == _LISTEN]
        for one in copies:
            with suppress(OSError):
                _steer(one, len(copies))
        until = loop.time() + _SECONDS
        while any(_state(one)[1] for one in copies) and loop.time() < until:
            await asyncio.sleep(0.001)
        for one in copies:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def clients_of(port: int) -> int:
    """Return how many connections there are that came by a port; 1 where it cannot be known."""
    count = 0 if sys.platform == "linux" else 1
    return count + sum(_state(one)[0] not in (_LISTEN, _CLOSED) for one in _sockets(port))


def _sockets(port: int) -> Iterator[socket.socket]:
    """Yield a copy of each TCP socket of this process with this local port; it is closed after its turn."""
    folder = Path("/proc/self/fd")
    for link in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # it was closed meanwhile
            if not str(link.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(link.name))) as one:
                if one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port:
                    yield one


def _state(one: socket.socket) -> tuple[int, int]:
    state, waiting = _WAITING.unpack(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING.size))
    return state, waiting


def _steer(listener: socket.socket, index: int) -> None:
    """Give all new connections to one of the sockets that share a port, by its index; the oldest is the first."""
    code = ctypes.create_string_buffer(struct.pack("=HBBI", _RETURN, 0, 0, index))
    program = struct.pack("HP", 1, ctypes.addressof(code))
    listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)

"""One budget of memory for all large requests in flight."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kaptain_magics.serving.protocol.protocol_errors import RequestError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_BLOCK = 4 * 1024 * 1024  # bytes from which on memory is the system's again as soon as it is free
FREE = 64 * 1024  # bytes of every request that are not counted: small requests are answered whatever large ones do


class Budget:
    """Memory that requests in flight may take together: their bodies, and what is made of them.

    Args:
        limit: Bytes.
        make_room: Called from any thread where there is too little: takes the memory of a request that came too slowly;
            returns whether there was one.
    """

    def __init__(self, limit: int, make_room: Callable[[], bool] = lambda: False) -> None:
        self.limit = limit
        self._make_room = make_room
        self._taken = 0
        self._turn = threading.Lock()

    def take(self, size: int, held: int) -> None:
        """Count bytes of a request; may be called from any thread.

        Args:
            size: The bytes.
            held: What the request holds already.

        Raises:
            RequestError: 413, it needs more than there is for all requests; 503, others take too much at the moment.
        """
        if held + size > self.limit:
            raise RequestError(
                413,
                f"the request needs more than {self.limit} bytes of memory: send fewer rows, or binary tensors",
                ((b"connection", b"close"),),
            )
        while not self._counted(size):
            if not self._make_room():
                raise too_many("too many large requests at once: try again")

    def _counted(self, size: int) -> bool:
        with self._turn:
            fits = self._taken + size <= self.limit
            self._taken += size if fits else 0
            return fits

    def give_back(self, size: int) -> None:
        """Return bytes to the budget when nothing refers to them any more."""
        with self._turn:
            self._taken -= size


def too_many(message: str) -> RequestError:
    """Return the refusal of a large request that another one's memory is missing for."""
    return RequestError(503, message, ((b"retry-after", b"1"), (b"connection", b"close")))


class Share:
    """What one request holds of the budget.

    Args:
        budget: The budget.
    """

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def take(self, size: int) -> None:
        """Count further bytes.

        Raises:
            RequestError: There are too many.
        """
        self._budget.take(size, self._held)
        self._held += size

    def give_back(self) -> bool:
        """Count nothing of it any more; returns whether there was something."""
        held, self._held = self._held, 0
        if held:
            self._budget.give_back(held)
        return bool(held)


class Heap:
    """Gives memory back to the system that was freed by large requests; the C library keeps it otherwise.

    A block above its threshold is given back when it is freed, but freeing one raises the threshold (up to 32 MB), and
    what a thread has freed below it is kept. So the threshold is fixed, and the rest is trimmed.
    """

    def __init__(self) -> None:
        self._trim: Any = None
        with suppress(OSError, AttributeError):  # only glibc has them
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, _BLOCK)
            library.mallopt(_M_TRIM_THRESHOLD, _BLOCK)
            self._trim = library.malloc_trim

    def trim(self) -> None:
        """Give back what is free; other threads go on meanwhile."""
        if self._trim is not None:
            self._trim(0)

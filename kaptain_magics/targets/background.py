"""Long work of a target in a thread of its own, so that its lines become events while it goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from kaptain_magics.core.events import Event, Noted
from kaptain_magics.images.progress import CancelledError, Progress

T = TypeVar("T")
_TICK = 0.2  # seconds between two looks at whether the result is still wanted
_GRACE = 5.0  # seconds for cancelled work to remove what is half made


class _Work(Generic[T]):
    """Work in a thread: its lines in a queue, ``None`` after the last one."""

    def __init__(self, work: Callable[[Progress], T]) -> None:
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._work = work
        self._cancelled = threading.Event()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="kaptain-work", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work(self._progress))
        except BaseException as error:  # raised again where the result is asked for
            self._error = error
        finally:
            self.lines.put(None)

    def _progress(self, line: str) -> None:
        if self._cancelled.is_set():
            raise CancelledError
        if line:
            self.lines.put(line)

    def cancel(self) -> None:
        """End the work at its next sign of progress; one that gives none is left behind."""
        self._cancelled.set()
        self._thread.join(_GRACE)

    def result(self) -> T:
        """Return what came of it, or raise what it ended by."""
        if self._error is not None:
            raise self._error
        return self._results[0]


def in_background(
    work: Callable[[Progress], T], is_cancelled: Callable[[], bool] = lambda: False
) -> Generator[Event, None, T]:
    """Yield the lines of some work as notes, as they come, and return its result.

    Args:
        work: Is given the ``Progress`` to call.
        is_cancelled: Asked several times a second.

    Raises:
        CancelledError: ``is_cancelled`` became true before the work had ended.
    """
    running = _Work(work)
    ended = False
    try:
        while not ended:
            try:
                line = running.lines.get(timeout=_TICK)
            except queue.Empty:
                line = ""
            if line is None:
                ended = True
            elif is_cancelled():
                raise CancelledError
            elif line:
                yield Noted(text=line)
        return running.result()
    finally:
        if not ended:  # cancelled, or the caller stopped reading
            running.cancel()

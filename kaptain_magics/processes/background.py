"""Work that gives way to everything else on the machine, in a process whose own forks do not."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

NICENESS = 5  # of two processes that want one core the other gets three quarters; more would hold up who waits for it

_T = TypeVar("_T")


def give_way(work: Callable[[], _T], niceness: int) -> _T:
    """Do something in a thread of that niceness, and wait for it.

    A process without privileges cannot lower its niceness again, and its children have it too. On Linux a niceness is
    that of a thread, and a fork has the one of the thread that forked: so the work has a thread of its own.

    Args:
        work: What is to be done; called in this thread where ``niceness`` is 0 or there are no such threads.
        niceness: Of that thread; more gives way more.
    """
    if not niceness or not Path("/proc/self/task").is_dir():
        return work()
    results: list[_T] = []
    errors: list[BaseException] = []

    def thread() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=thread, daemon=True)
    worker.start()
    worker.join()
    if errors:
        raise errors[0]
    return results[0]

"""Ends what a job leaves behind: processes that outlived it, outside its process group."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Container

from kaptain_magics.processes.environment_mark import mark_of

_LONGEST = 1.0  # seconds for all of it: the worker has other jobs, and a job that goes on forking must not hold it
_EXECUTING = 0.2  # seconds for children that are executing a program; measured under load: 8 ms at most, of 400


def end_job(pid: int, mark: str, others: Container[int], alone: bool) -> None:
    """End what is left of a job of this worker: its process group, and the orphans that left the group.

    The worker is the subreaper of its jobs (``prctl``): a process whose parent has ended becomes a child of the worker,
    and not of process 1. So the orphans are among the worker's children. They are looked for in rounds, since an
    orphan's own children become children of the worker only when it has ended:

    * Some bear the job's mark: they are killed, and the next round follows.
    * None does, but some show no environment yet, for they are executing a program: the next round follows until they
      show it, ``_EXECUTING`` at most. A process that takes longer is left to the end of the worker.
    * None does, and all show their environment: done. ``_LONGEST`` ends the rounds in any case.

    An orphan without a mark has cleared its environment. It can be any job's, so it is ended only with the last one.

    Args:
        pid: The job, which is the leader of its group.
        mark: Its mark; without one only the group is ended.
        others: Process ids of the jobs that still run.
        alone: Whether no other job can have left an orphan.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    doomed = (mark, "") if alone else (mark,)
    started = time.monotonic()
    while mark and time.monotonic() < started + _LONGEST:
        marks = {child: mark_of(child) for child in _children() if child not in others}
        marks = {child: its for child, its in marks.items() if _is_alive(child)}
        left = [child for child, its in marks.items() if its in doomed]
        for child in left:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        if not left and (None not in marks.values() or time.monotonic() > started + _EXECUTING):
            return
        time.sleep(0.001)


def end_marked(start: str, seconds: float = 2.0) -> None:
    """End every process of this user whose mark begins so; for jobs whose worker is dead and cannot do it.

    Args:
        start: A job's mark, or that of a run.
        seconds: How long to look for those that are just being started.
    """
    until = time.monotonic() + seconds
    while start and time.monotonic() < until:
        marked = [pid for pid in _processes() if pid != os.getpid() and (mark_of(pid) or "").startswith(start)]
        for pid in marked:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not marked:
            return
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has reaped yet has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] not in "ZX"
    return True


def _children() -> list[int]:
    """Return the children of this process, adopted orphans included."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return [int(pid) for pid in file.read().split()]
    return []


def _is_alive(pid: int) -> bool:
    """Whether a child has not ended; one that has is reaped."""
    with contextlib.suppress(ChildProcessError):
        return not os.waitpid(pid, os.WNOHANG)[0]
    return False


def _processes() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return []

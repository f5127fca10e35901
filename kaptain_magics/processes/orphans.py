"""Finds the processes that a job leaves: those that bear its mark, and those that have cleared their environment.

A job's mark is its ``KAPTAIN_JOB``; a process shows it in the environment that it was started with, on Linux.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
import time

NO_MARK = "-" * 32  # what a worker has as KAPTAIN_JOB; a job has 32 other characters there


def run_mark(run_id: str) -> str:
    """Return the first half of the marks of all jobs of a run."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]


def mark_of(pid: int) -> str | None:
    """Return the mark of a process: empty where it has none, ``None`` while it is executing a program."""
    with contextlib.suppress(OSError):
        environment = _read(pid, "environ")
        if not environment:
            if not _read(pid, "cmdline"):
                return None
            environment = _read(pid, "environ")  # the program may have begun in between
        for entry in environment.split(b"\0"):
            if entry.startswith(b"KAPTAIN_JOB="):
                return entry.removeprefix(b"KAPTAIN_JOB=").decode("ascii", "replace")
    return ""


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def write_mark(mark: str) -> None:
    """Write a job's mark where the kernel looks for this process's first environment; its own forks inherit that.

    ``os.environ`` alone reaches only the programs that the job executes.
    """
    if len(mark) == len(NO_MARK):
        with contextlib.suppress(Exception):
            import ctypes

            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_void_p
            place = getenv(b"KAPTAIN_JOB")
            if place and ctypes.string_at(place) == NO_MARK.encode():
                ctypes.memmove(place, mark.encode(), len(NO_MARK))


def children() -> list[int]:
    """Return the children of this process, adopted orphans included."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return [int(pid) for pid in file.read().split()]
    return []


def lives(pid: int) -> bool:
    """Whether a child has not ended; one that has is forgotten."""
    with contextlib.suppress(ChildProcessError):
        return not os.waitpid(pid, os.WNOHANG)[0]
    return False


def end_marked(start: str, seconds: float = 2.0) -> None:
    """End every process whose mark begins so.

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


def _processes() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return []

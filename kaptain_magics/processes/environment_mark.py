"""The mark that every process of a job bears: ``KAPTAIN_JOB`` in the environment that it was started with.

The end of a job ends all that it started, also a daemon that has left its process group, its session and its parents.
What no fork, ``exec`` or ``setsid`` takes off is the environment, and on Linux ``/proc/PID/environ`` shows it to every
process of the same user. It shows the memory in which the kernel laid the environment down when the process *executed*
a program. A job of a worker never executes one: it is a fork, and what ``os.environ`` sets goes elsewhere. So the
worker is started with a ``KAPTAIN_JOB`` that is a row of hyphens, as long as a mark, and ``write_mark`` writes over it
in place, through ctypes, because Python has no other way to that memory.

Where that is impossible (no ctypes, no libc with ``getenv``, a variable that was set again since), the fallback is
``os.environ``: programs that the job executes bear its mark, and what it only forks is ended with its process group.
Without ``/proc`` (macOS, Windows) the process group is all there is.
"""

from __future__ import annotations

import contextlib
import hashlib

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
            environment = _read(pid, "environ")  # the program may have started in between
        for entry in environment.split(b"\0"):
            if entry.startswith(b"KAPTAIN_JOB="):
                return entry.removeprefix(b"KAPTAIN_JOB=").decode("ascii", "replace")
    return ""


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def write_mark(mark: str) -> None:
    """Write a job's mark over the hyphens with which its worker was started; its own forks inherit it."""
    if len(mark) == len(NO_MARK):
        with contextlib.suppress(Exception):
            import ctypes

            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_void_p
            address = getenv(b"KAPTAIN_JOB")
            if address and ctypes.string_at(address) == NO_MARK.encode():
                ctypes.memmove(address, mark.encode(), len(NO_MARK))

"""Keeps a job within its memory limit, where the system shows what its processes hold."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from kaptain_magics.processes.memory import private_bytes


class MemoryWatch:
    """Compares the memory of a process group with its limit, at most four times a second.

    Args:
        group: The process group.
        limit: Bytes; ``None`` watches nothing.
    """

    def __init__(self, group: int, limit: int | None) -> None:
        self.reason = self.hint = ""
        self._group, self._limit = group, limit
        self._next = 0.0

    def exceeded(self) -> bool:
        """Whether the limit is passed now; the reason is kept."""
        now = time.monotonic()
        if self._limit is None or now < self._next or not Path("/proc/self").is_dir():
            return False
        self._next = now + 0.25
        used = sum(private_bytes(pid) for pid in _members(self._group))
        if used <= self._limit:
            return False
        self.reason = f"out of memory: the job held {used / 1e6:.0f} MB of at most {self._limit / 1e6:.0f} MB"
        self.hint = "raise the limit with --memory"
        return True


def _members(group: int) -> list[int]:
    members = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getpgid(int(entry.name)) == group:
                    members.append(int(entry.name))
    return members

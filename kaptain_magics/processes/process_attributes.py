"""What a process inherits and hands on to its forks; only equals share a worker."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any


def inherited() -> list[Any]:
    """Return niceness, limits, umask, processors and control group of this process, as JSON can have them."""
    facts: list[Any] = [_umask()]
    with contextlib.suppress(AttributeError, OSError):
        facts.append(os.getpriority(os.PRIO_PROCESS, 0))
    with contextlib.suppress(AttributeError, OSError):
        facts.append(sorted(os.sched_getaffinity(0)))
    with contextlib.suppress(ImportError):
        import resource

        names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
        facts.append([resource.getrlimit(getattr(resource, name)) for name in names])
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/self/cgroup").read_text())
    return facts


def _umask() -> int:
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)  # there is no other way to read it
    os.umask(mask)
    return mask

"""Memory: what a process holds, and how much is left on the machine and within the bounds of a container."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_SHARE, _MOST_BYTES = 0.1, 1 << 30  # of the memory, and bytes at most, that idle workers leave free
_CONTROLLERS = {  # of control groups, version 2 and 1: folder, limit, use, and the cache in it that can be dropped
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def private_bytes(pid: int) -> int:
    """Return the resident bytes of a process without those shared with files and shared memory; 0 if it is unknown."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm") as file:
        fields = file.read().split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    return 0


def own_bytes(pid: int) -> int:
    """Return the bytes that a process holds, of pages that it shares its part; 0 if it is unknown.

    It looks at every page: milliseconds for a process with libraries. Where the system does not say it:
    ``private_bytes``.
    """
    with contextlib.suppress(OSError, ValueError, KeyError), open(f"/proc/{pid}/smaps_rollup") as file:
        fields = dict(line.split(":", 1) for line in file if line[0].isupper())
        return _kilobytes(fields["Pss"])
    return private_bytes(pid)


def shortage(reserve: float | None, needed: int = 0, root: Path = Path("/")) -> str:
    """Return how little memory is available, in words; empty while it is enough or unknown.

    Args:
        reserve: Bytes that are to stay free; where none are named a tenth of the memory, 1 GiB at most. 0 is no bound.
        needed: Bytes that a new process is expected to hold.
        root: Where the file system begins.
    """
    sizes = list(_sizes(root))
    if not sizes or reserve == 0:
        return ""
    available, total = min(free for free, _ in sizes), min(whole for _, whole in sizes)
    floor = min(total * _SHARE, _MOST_BYTES) if reserve is None else reserve
    if available >= max(floor, needed):
        return ""
    return f"only {available / 1e9:.1f} of {total / 1e9:.1f} GB of memory was available"


def whole(root: Path = Path("/")) -> int:
    """Return the bytes of memory that there are, for the machine or for this container; 0 if it is unknown."""
    return min((size for _, size in _sizes(root)), default=0)


def _sizes(root: Path) -> Iterator[tuple[int, int]]:
    """Yield free and whole bytes: the machine's, and those of every control group that bounds this process."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        meminfo = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
        yield _kilobytes(meminfo["MemAvailable"]), _kilobytes(meminfo["MemTotal"])
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in _CONTROLLERS.keys() & controllers.split(","):
                yield from _bounds(root / "sys/fs/cgroup", path, *_CONTROLLERS[controller])


def _kilobytes(text: str) -> int:
    return int(text.split()[0]) * 1024


def _bounds(base: Path, path: str, controller: str, limit: str, use: str, cache: str) -> Iterator[tuple[int, int]]:
    top = base / controller
    group = top / path.strip("/")
    while group.is_relative_to(top):
        with contextlib.suppress(OSError, ValueError, KeyError):  # no limit ("max"), or the path of another container
            whole = int((group / limit).read_text())
            fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield whole - int((group / use).read_text()) + int(fields[cache]), whole
        group = group.parent

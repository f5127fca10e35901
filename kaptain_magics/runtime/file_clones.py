"""Copies of files that share the blocks of their source, where the file system can (btrfs, xfs): as quick as a link."""

from __future__ import annotations

import contextlib
from pathlib import Path

LEAST = 1 << 20
"""Bytes of a file from which on a clone is worth the attempt."""

_CLONE = 0x40049409  # FICLONE of linux/fs.h, which fcntl names from Python 3.12 on


def clone(source: str, target: str) -> bool:
    """Make a copy that shares the blocks of its source; returns whether the file system can."""
    if Path(source).stat().st_size < LEAST:
        return False
    try:
        import fcntl

        with open(source, "rb") as theirs, open(target, "xb") as own:
            fcntl.ioctl(own.fileno(), _CLONE, theirs.fileno())
        return True
    except (ImportError, OSError):
        with contextlib.suppress(OSError):
            Path(target).unlink()
        return False

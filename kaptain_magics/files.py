"""Files that appear whole, and locks that the operating system drops when their holder dies. Any room may use them."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kaptain_magics.errors import StateError


def private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone, from the first moment on."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def appended(path: Path) -> BinaryIO:
    """Open a file to append to; it is made for this user alone."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def close_to_others(path: Path) -> None:
    """Take the permissions of group and others off a folder of ours; of what is not there nothing is said."""
    with suppress(OSError):
        status = os.stat(path)
        if status.st_mode & 0o077 and hasattr(os, "getuid") and status.st_uid == os.getuid():
            path.chmod(status.st_mode & 0o700)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that every reader sees either the old content or the new one.

    Raises:
        StateError: The disk is full or the folder cannot be written.
    """
    temporary = ""
    try:
        private_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> StateError:
    """Say in one sentence why a file of the store cannot be used."""
    return StateError(
        f"cannot use {path}: {error.strerror or error}",
        "free disk space or name another state folder with KAPTAIN_HOME, then run the line again",
    )


class Lock:
    """An advisory lock on a file, held by at most one process and released by its death.

    Args:
        path: The lock's file; made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; returns whether it was free (or is ours already)."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise disk_error(error, self.path) from error
        try:
            _lock(descriptor)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def held_by_other(self) -> bool:
        """Whether another process (or another ``Lock``) holds the lock now."""
        if self._descriptor is not None or not self.path.exists():
            return False
        if self.acquire():
            self.release()
            return False
        return True


if sys.platform == "win32":  # guarded: cannot be tested here

    def _lock(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:

    def _lock(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path, patience: float = 10.0) -> Iterator[None]:
    """Hold the lock of ``path`` for a block that reads and writes it.

    Args:
        path: The lock's file.
        patience: Seconds to wait for another holder.

    Raises:
        StateError: Another process holds it for longer than that.
    """
    private_folder(path.parent)
    lock = Lock(path)
    until = time.monotonic() + patience
    while not lock.acquire():
        if time.monotonic() > until:
            raise StateError(f"{path} is locked by another process", "wait for it to end, or end it")
        time.sleep(0.005)
    try:
        yield
    finally:
        lock.release()

"""Files that appear whole, and locks that the operating system drops when their holder dies. Any room may use them."""

from __future__ import annotations

import errno
import os
import struct
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kaptain_magics.errors import StateError
from kaptain_magics.runtime.folders import private_folder as private_folder


def open_append(path: Path) -> BinaryIO:
    """Open a file to append to; it is made for this user alone."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def make_private(path: Path) -> None:
    """Take the permissions of group and others off a folder of ours; one that is not there is no error."""
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

    The lock belongs to the open file: another process that is handed the descriptor holds it too, also when this one
    lets go.

    Args:
        path: The lock's file; made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._closing: weakref.finalize[..., Lock] | None = None

    @property
    def descriptor(self) -> int | None:
        """The descriptor that holds the lock, to be handed to another process; ``None`` when it is not held here."""
        return self._descriptor

    def acquire(self) -> bool:
        """Take the lock; returns whether it was free (or is ours already).

        Raises:
            StateError: The file cannot be opened, or its file system has no locks.
        """
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise disk_error(error, self.path) from error
        try:
            free = _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise disk_error(error, self.path) from error
        if free:
            self._hold(descriptor)
        else:
            os.close(descriptor)
        return free

    def adopt(self, descriptor: int) -> None:
        """Hold the lock by a descriptor that another process has handed over."""
        os.set_inheritable(descriptor, False)
        self._hold(descriptor)

    def _hold(self, descriptor: int) -> None:
        self._descriptor, self._closing = descriptor, weakref.finalize(self, os.close, descriptor)

    def write(self, data: bytes) -> None:
        """Replace the content of the lock's file, which must be held."""
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, data)

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._closing is not None:
            self._closing()
        self._descriptor = self._closing = None

    def held_by_other(self) -> bool:
        """Whether another process (or another ``Lock``) holds the lock now. Looking never takes it."""
        if self._descriptor is not None:
            return False
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            return False
        try:
            return _is_locked(descriptor)
        except OSError as error:
            raise disk_error(error, self.path) from error
        finally:
            os.close(descriptor)


_BUSY = (errno.EACCES, errno.EAGAIN)  # errors of taking a lock that another process holds
_QUERY_TIME = 0.2  # seconds to try again where a query takes the lock for a moment; it holds it for microseconds

if sys.platform == "win32":  # guarded: cannot be tested here

    def _lock(descriptor: int) -> bool:
        import msvcrt

        def take() -> None:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

        return _take_between_queries(take)

    def _is_locked(descriptor: int) -> bool:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return True
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return False
else:
    import fcntl

    # Linux answers who holds a lock without taking it. Every process of a machine decides alike.
    _HAS_QUERY = sys.platform == "linux" and hasattr(fcntl, "F_OFD_GETLK")
    _FLOCK = "hhqqi0q"  # struct flock: type, whence, start, length (0: to the end), process

    def _lock(descriptor: int) -> bool:
        if _HAS_QUERY:
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            except OSError as error:
                if error.errno in _BUSY:
                    return False
                if error.errno != errno.EINVAL:  # a system call of a sandbox that lacks these locks
                    raise
            else:
                return True
        return _take_between_queries(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))

    def _is_locked(descriptor: int) -> bool:
        if _HAS_QUERY:
            query = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            try:
                answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, query)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                return True
            raise
        return False


def _take_between_queries(take: Callable[[], object]) -> bool:
    """Take a lock that others may hold for the moment of a query."""
    until = time.monotonic() + _QUERY_TIME
    while True:
        try:
            take()
        except OSError as error:
            if error.errno not in _BUSY:
                raise
            if time.monotonic() > until:
                return False
            time.sleep(0.001)
        else:
            return True


@contextmanager
def locked(path: Path, timeout: float = 10.0) -> Iterator[None]:
    """Hold the lock of ``path`` for a block that reads and writes it.

    Args:
        path: The lock's file.
        timeout: Seconds to wait for another holder.

    Raises:
        StateError: Another process holds it for longer than that.
    """
    private_folder(path.parent)
    lock = Lock(path)
    until = time.monotonic() + timeout
    while not lock.acquire():
        if time.monotonic() > until:
            raise StateError(f"{path} is locked by another process", "wait for it to end, or end it")
        time.sleep(0.005)
    try:
        yield
    finally:
        lock.release()

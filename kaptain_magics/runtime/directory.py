"""Objects in a directory: every file appears by rename, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kaptain_magics.runtime.folders import private_folder
from kaptain_magics.runtime.job_errors import DeniedError, MissingError, TransferError
from kaptain_magics.runtime.location import Location

PART = ".kaptain-part-"  # name of a file that is still being written
_BLOCK = 1 << 20  # bytes that are copied at a time; memory stays the same for a file of any size
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Entry(NamedTuple):
    """An object in a folder.

    Attributes:
        path: Its path relative to the folder.
        size: Bytes.
        modified: Seconds since 1970.
        etag: S3's tag of its content; empty in a directory.
    """

    path: str
    size: int
    modified: float
    etag: str = ""


class DirectoryTransfer:
    """Moves files to, from and in a directory; see ``transfer.Transfer``."""

    def entries(self, folder: Location) -> dict[str, Entry]:
        """Return every object below a folder by its relative path; nothing when the folder is not there."""
        with translate_os_errors(folder.path):
            return {entry.path: entry for entry in _scan(folder.key)}

    def entry(self, target: Location) -> Entry | None:
        """Return the object itself, or ``None``."""
        with translate_os_errors(target.path):
            try:
                status = os.stat(target.key)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return None if stat.S_ISDIR(status.st_mode) else Entry(target.path.name, status.st_size, status.st_mtime)

    def send(self, source: Path, target: Location, _existing: Entry | None = None) -> str:
        """Copy a file to ``target`` and return its sha256 (hex)."""
        return _copy(source, target.path)

    def send_all(self, files: Mapping[str, Path], folder: Location, _existing: Mapping[str, Entry]) -> dict[str, str]:
        """Copy files into a folder; returns their sha256 by name."""
        return {name: self.send(source, folder / name) for name, source in files.items()}

    def fetch(self, source: Location, target: Path, _entry: Entry | None = None) -> str:
        """Copy an object to a file and return its sha256 (hex)."""
        return _copy(_stored(source), target)

    def fetch_all(self, names: Mapping[str, Path], folder: Location, _entries: Mapping[str, Entry]) -> dict[str, str]:
        """Copy objects of a folder to files; returns their sha256 by name."""
        return {name: self.fetch(folder / name, target) for name, target in names.items()}

    def read(self, source: Location) -> bytes:
        """Return an object's bytes."""
        with translate_os_errors(source.path):
            return _stored(source).read_bytes()

    def write(self, target: Location, data: bytes) -> None:
        """Store bytes as an object."""
        with atomic_write(target.path) as file:
            file.write(data)


def _scan(folder: str, prefix: str = "") -> Iterator[Entry]:
    try:
        items = sorted(os.scandir(folder), key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for item in items:
        if item.name.startswith(PART):
            continue
        if item.is_dir(follow_symlinks=False):
            yield from _scan(item.path, f"{prefix}{item.name}/")
        elif item.is_file():
            status = item.stat()
            yield Entry(prefix + item.name, status.st_size, status.st_mtime)


def _stored(source: Location) -> Path:
    if not source.path.is_file():
        raise MissingError(f"nothing is stored at {source}", "check the URI, or train the model first")
    return source.path


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with translate_os_errors(source), open(source, "rb", buffering=0) as reader, atomic_write(target) as writer:
        copy_blocks(reader.readinto, digest.update, writer.write)
    return digest.hexdigest()


def copy_blocks(read: Callable[[memoryview], int], *sinks: Callable[[memoryview], object]) -> None:
    """Hand everything that ``read`` fills in to every sink, block by block."""
    block = memoryview(bytearray(_BLOCK))
    while count := read(block):
        for sink in sinks:
            sink(block[:count])


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends well, and is gone otherwise.

    It is for this user alone: a model may hold rows of the data that it was trained on.
    """
    part = path.with_name(f"{PART}{os.urandom(6).hex()}")
    with translate_os_errors(path):
        private_folder(path.parent)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with open(descriptor, "wb") as file:
                yield file
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` in the block into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        name = error.filename or path
        if error.errno in _FULL:
            message = f"cannot write {path}: {error.strerror}"
            raise TransferError(message, "free disk space, or store somewhere else with KAPTAIN_STORAGE_URI") from error
        if error.errno in _DENIED:
            raise DeniedError(f"cannot use {name}: {error.strerror}", "check the owner and permissions") from error
        if error.errno == errno.ENOENT:
            raise MissingError(f"there is nothing at {name}", "check the path") from error
        raise TransferError(f"cannot use {name}: {error.strerror or error}", "check the path") from error

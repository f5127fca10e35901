"""One digest over everything that an image is made of; files that have not changed are not read again."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from kaptain_magics.errors import ImageError, StateError
from kaptain_magics.files import write_whole
from kaptain_magics.images.build_context import Entry

_FORMAT = b"kaptain image 1"
_SETTLED = 2.0  # seconds after which a file that changes again surely has another time stamp


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    """A file as it was when it was read."""

    size: int
    changed: int
    inode: int
    sha256: str


class FileDigests:
    """sha256 of files, remembered by size, time of change and inode.

    Args:
        path: File that keeps them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, _Entry] = {}
        self._new = False
        with suppress(OSError, msgspec.MsgspecError):
            self._entries = msgspec.msgpack.decode(path.read_bytes(), type=dict[str, _Entry])

    @classmethod
    def under(cls, cache: Path) -> FileDigests:
        """Return what is remembered in the folder for things that can be made again."""
        return cls(cache / "images" / "files.msgpack")

    def of(self, path: Path) -> str:
        """Return the file's sha256 (hex).

        Raises:
            ImageError: It cannot be read.
        """
        name = os.path.abspath(path)
        try:
            status = os.stat(name)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{path} is not a regular file", "leave it out of --files")
            changed = max(status.st_mtime_ns, status.st_ctime_ns)
            entry = self._entries.get(name)
            if entry is None or (entry.size, entry.changed, entry.inode) != (status.st_size, changed, status.st_ino):
                with open(name, "rb") as file:
                    entry = _Entry(
                        status.st_size, changed, status.st_ino, hashlib.file_digest(file, "sha256").hexdigest()
                    )
                if time.time() - changed / 1e9 > _SETTLED:
                    self._entries[name], self._new = entry, True
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}", "check that the file is there") from error
        return entry.sha256

    def save(self) -> None:
        """Keep what was learned; a full disk only costs time."""
        if self._new:
            with suppress(StateError):
                write_whole(self._path, msgspec.msgpack.encode(self._entries))
            self._new = False


def image_digest(
    entries: Iterable[Entry],
    files: FileDigests,
    *,
    base: str,
    requirements: Sequence[str] = (),
    entrypoint: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> str:
    """Return the digest (64 hexadecimal digits) of an image that does not have to exist yet.

    Args:
        entries: The files of the context.
        files: Their digests.
        base: Digest of the base image.
        requirements: Lines of the requirements file.
        entrypoint: The entry point.
        settings: What else decides the image, such as its platform or its Dockerfile.
    """
    total = hashlib.sha256(_FORMAT)

    def add(*words: str) -> None:
        for word in words:
            data = word.encode()
            total.update(b"%d:" % len(data))
            total.update(data)

    add(base)
    for part in (requirements, entrypoint, [word for pair in sorted((settings or {}).items()) for word in pair]):
        add(str(len(part)), *part)
    for entry in sorted(entries, key=lambda item: item.path):
        content = (
            hashlib.sha256(entry.source).hexdigest() if isinstance(entry.source, bytes) else files.of(entry.source)
        )
        add(entry.path, "x" if entry.executable else "-", content)
    files.save()
    return total.hexdigest()

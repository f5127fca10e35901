"""Layers: tar archives whose bytes depend on nothing but names and contents."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from kaptain_magics.errors import ImageError
from kaptain_magics.images.context import Entry

_IN_MEMORY = 32 << 20  # bytes of a layer that are kept in memory
_LEVEL = 3  # of gzip: a layer is written once and read a few times


class Layer(NamedTuple):
    """A compressed layer.

    Attributes:
        digest: sha256 of the compressed bytes, ``sha256:<hex>``.
        diff_id: sha256 of the tar archive.
        size: Compressed bytes.
        file: The compressed bytes, open for reading.
        comment: What is in it, for the image's history.
    """

    digest: str
    diff_id: str
    size: int
    file: IO[bytes]
    comment: str


class _Digesting:
    """Hands written bytes on and keeps their digest and number."""

    def __init__(self, sink: Any) -> None:
        self.sink, self.sha, self.size = sink, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        self.size += len(data)
        self.sink.write(data)
        return len(data)

    def flush(self) -> None:
        self.sink.flush()


def make_layer(entries: Iterable[Entry], prefix: str, comment: str) -> Layer:
    """Write a layer: no user, no time, no path of this machine; the same entries give the same bytes.

    Args:
        entries: The files; their order does not matter.
        prefix: Absolute folder of the image that they go to.
        comment: What is in it.

    Raises:
        ImageError: A file cannot be read, or the disk is full.
    """
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - the layer owns it
    try:
        packed = _Digesting(file)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=packed, mtime=0) as zipped:
            plain = _Digesting(zipped)
            write_tar(plain, entries, prefix.strip("/"))
    except OSError as error:
        file.close()
        where = f" of {error.filename}" if error.filename else ""
        raise ImageError(
            f"the image's layer cannot be written{where}: {error.strerror or error}", _hint(error)
        ) from error
    file.seek(0)
    return Layer(
        f"sha256:{packed.sha.hexdigest()}",
        f"sha256:{plain.sha.hexdigest()}",
        packed.size,
        file,
        comment,
    )


def write_tar(
    sink: Any,
    entries: Iterable[Entry],
    prefix: str,
    *,
    further: Iterable[tarfile.TarInfo] = (),
) -> None:
    """Write the folder ``prefix`` and the entries in it, sorted by path.

    Everything belongs to root and may be written by group 0: a container that runs under any other number, with 0 as
    one of its groups, can use it as its own.

    Args:
        sink: Gets the archive; needs ``write`` only.
        entries: The files.
        prefix: Folder that they go to, without a slash at either end.
        further: Further folders, as they are.
    """
    made: set[str] = {""}
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:

        def make_folder(path: str) -> None:
            if path not in made:
                make_folder(path.rpartition("/")[0])
                made.add(path)
                tar.addfile(folder_info(path, 0o775))

        make_folder(prefix)
        for entry in sorted(entries, key=lambda item: item.path):
            info = tarfile.TarInfo(f"{prefix}/{entry.path}".lstrip("/"))
            make_folder(info.name.rpartition("/")[0])
            info.mode = 0o775 if entry.executable else 0o664
            if isinstance(entry.source, bytes):
                info.size = len(entry.source)
                tar.addfile(info, io.BytesIO(entry.source))
            else:
                with open(entry.source, "rb") as file:
                    info.size = os.fstat(file.fileno()).st_size
                    tar.addfile(info, file)
        for info in further:
            tar.addfile(info)


def folder_info(path: str, mode: int) -> tarfile.TarInfo:
    """Return the entry of a folder."""
    info = tarfile.TarInfo(path)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info


def files_below(folder: Path) -> list[Entry]:
    """Return every file below a folder, links followed, compiled Python left out."""
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = Path(here) / name
            found.append(Entry(path.relative_to(folder).as_posix(), path, os.access(path, os.X_OK)))
    return found


def _hint(error: OSError) -> str:
    return "free disk space" if error.errno == 28 else "check that the file is there and may be read"

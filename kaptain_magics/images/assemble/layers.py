"""Layers of an image: compressed tar archives, with the digests that a registry and a manifest need."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

from kaptain_magics.errors import ImageError
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.tar_files import write_tar

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
        which = f" of {error.filename}" if error.filename else ""
        raise ImageError(
            f"the image's layer cannot be written{which}: {error.strerror or error}", _hint(error)
        ) from error
    file.seek(0)
    return Layer(
        f"sha256:{packed.sha.hexdigest()}",
        f"sha256:{plain.sha.hexdigest()}",
        packed.size,
        file,
        comment,
    )


def _hint(error: OSError) -> str:
    return "free disk space" if error.errno == 28 else "check that the file is there and may be read"

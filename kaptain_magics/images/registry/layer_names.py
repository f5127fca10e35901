"""The names of the files in a layer, read from the stream that a registry sends: nothing is written to a disk."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator

from kaptain_magics.errors import ImageError


class _Pieces:
    """A file of pieces, for tarfile to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece, self._at = pieces, memoryview(b""), 0

    def read(self, size: int) -> bytes:
        taken = b""
        while len(taken) < size:
            if self._at == len(self._piece):
                self._piece, self._at = memoryview(next(self._pieces, b"")), 0
                if not self._piece:
                    break
            part = self._piece[self._at : self._at + size - len(taken)]
            self._at += len(part)
            taken += part
        return taken


def _unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    unzip = zlib.decompressobj(wbits=31)
    for piece in pieces:
        yield from filter(None, [unzip.decompress(piece)])


def names_in_layer(blob: Iterator[bytes], media_type: str) -> Iterator[str]:
    """Yield the names in a layer.

    Args:
        blob: The layer's bytes.
        media_type: How it is compressed, as its manifest says.

    Raises:
        ImageError: It is compressed with zstd, or damaged.
    """
    if media_type.endswith("zstd"):
        raise ImageError(
            "the base image's layers are compressed with zstd, which cannot be read here",
            "build with a Docker engine, or use a base image compressed with gzip",
        )
    plain = blob if media_type.endswith("tar") else _unzipped(blob)
    try:
        with tarfile.open(fileobj=_Pieces(plain), mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                yield member.name
    except (tarfile.TarError, zlib.error) as error:
        raise ImageError(f"a layer of the base image cannot be read: {error}", "push the base image again") from error

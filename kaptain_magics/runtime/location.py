"""URIs of the store: ``file:///folder/name`` and ``s3://bucket/key``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from kaptain_magics.runtime.job_errors import TransferError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Location(NamedTuple):
    """Where an object or a folder of objects is.

    Attributes:
        bucket: The S3 bucket; empty in a directory.
        key: The key in the bucket without slashes at its ends, or the absolute path in the file system.
    """

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str | Path) -> Location:
        """Read a URI; an absolute path means ``file://``.

        Raises:
            TransferError: It is not a URI of a supported store.
        """
        text = str(uri)
        scheme, separator, rest = text.partition("://")
        if not separator:
            path = Path(text).expanduser()
            if path.is_absolute():
                return cls("", _tidy_path(str(path), text))
            raise TransferError(f"{text!r} is not a URI", "write file:///folder or s3://bucket/prefix")
        if scheme == "file":
            host, _, tail = rest.partition("/")
            if host not in ("", "localhost"):
                raise TransferError(f"{text!r} names the host {host!r}", f"write three slashes: file:///{rest}")
            tail = unquote(tail)
            return cls("", _tidy_path(tail if os.name == "nt" else f"/{tail}", text))
        if scheme == "s3":
            bucket, _, key = rest.partition("/")
            if not _BUCKET.fullmatch(bucket) or ".." in bucket:
                raise TransferError(
                    f"{bucket!r} in {text!r} is not a valid bucket name",
                    "a bucket has 3 to 63 lower-case letters, digits, dots and dashes: s3://bucket/prefix",
                )
            return cls(bucket, relative_key(key))
        raise TransferError(f"{text!r}: {scheme}:// is not supported", "use file:///folder or s3://bucket/prefix")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/") if self.bucket else f"file://{quote(self._slashed)}"

    @property
    def _slashed(self) -> str:
        return self.key if os.name != "nt" else "/" + self.key.replace(os.sep, "/")

    @property
    def path(self) -> Path:
        """The path in the file system; of use for a location without a bucket only."""
        return Path(self.key)

    def __truediv__(self, name: str) -> Location:
        """Return the location of ``name`` (slashes between its parts) below this one.

        Raises:
            TransferError: The name would leave this folder.
        """
        part = relative_key(name)
        if self.bucket:
            return Location(self.bucket, f"{self.key}/{part}" if self.key else part)
        return Location("", os.path.join(self.key, *part.split("/")))

    def holds(self, other: Location) -> bool:
        """Whether ``other`` is this location or below it."""
        if self.bucket != other.bucket:
            return False
        separator = "/" if self.bucket else os.sep
        return other.key == self.key or other.key.startswith(self.key.rstrip(separator) + separator) or not self.key


def relative_key(name: str) -> str:
    """Return a relative name with single slashes and none at its ends.

    Raises:
        TransferError: A part of it is ``.`` or ``..``.
    """
    parts = [part for part in name.split("/") if part]
    if "." in parts or ".." in parts or "\0" in name or (os.name == "nt" and "\\" in name):
        raise TransferError(f"{name!r} is not a plain path", "remove '.' and '..'")
    return "/".join(parts)


def _tidy_path(path: str, text: str) -> str:
    if ".." in path.replace("\\", "/").split("/") or "\0" in path:
        raise TransferError(f"{text!r} is not a plain path", "remove '..'")
    return os.path.normpath(path)

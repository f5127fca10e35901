"""The protocol of object stores, and what a directory and S3 have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from kaptain_magics.errors import CredentialsError, IntegrityError, ObjectMissingError, StorageError
from kaptain_magics.runtime.directory import Entry
from kaptain_magics.runtime.job_errors import DamagedError, DeniedError, MissingError, TransferError
from kaptain_magics.runtime.location import Location
from kaptain_magics.runtime.manifest import MANIFEST, Manifest
from kaptain_magics.runtime.transfer import (
    Artifact,
    Transfer,
    download,
    files_below,
    named_files,
    read_manifest,
    upload_file,
    upload_files,
)

_CLASSES = {DamagedError: IntegrityError, DeniedError: CredentialsError, MissingError: ObjectMissingError}


class ObjectStore(Protocol):
    """A place for objects; every URI is whole.

    Objects appear whole or not at all. Errors are ``StorageError`` with a next step, after bounded retries.
    """

    def put(self, source: str | Path, uri: str, framework: str = "", format: str = "") -> Artifact:  # noqa: A002
        """Store a file as the object ``uri``, or a folder's files below ``uri`` with a manifest, written last.

        A folder takes the place of what was there. An interrupted call goes on where it ended when it is repeated.

        Args:
            source: The file or folder.
            uri: Where to.
            framework: For the folder's manifest.
            format: For the folder's manifest.

        Returns:
            What is stored, with the sha256 of every file.
        """

    def get(self, uri: str, target: str | Path) -> Artifact:
        """Bring an object to the file ``target``, or a folder's objects into the folder ``target``.

        Raises:
            ObjectMissingError: Nothing is stored there.
            IntegrityError: A file is not what the folder's manifest says; then there is no new ``target``.
        """

    def list(self, uri: str) -> list[Entry]:
        """Return every object below a folder, sorted by path; nothing when it is not there."""

    def copy(self, source: str, target: str) -> None:
        """Copy an object or a folder without bringing it here; a folder takes the place of what was there.

        Raises:
            ObjectMissingError: Nothing is stored at ``source``.
        """

    def delete(self, uri: str) -> None:
        """Delete an object, or a folder with all below it; nothing happens when it is not there.

        Raises:
            StorageError: It is not below the store's base.
        """

    def exists(self, uri: str) -> bool:
        """Whether there is an object or a folder."""

    def read(self, uri: str) -> bytes:
        """Return an object's bytes.

        Raises:
            ObjectMissingError: Nothing is stored there.
        """

    def write(self, uri: str, data: bytes) -> None:
        """Store bytes as an object, in the place of the one that was there."""

    def manifest(self, uri: str) -> Manifest:
        """Return what a saved folder holds.

        Raises:
            ObjectMissingError: It has no manifest: nothing was saved there, or not to the end.
        """


class BaseStore(ABC):
    """What every store does alike, on top of a transfer.

    Args:
        base: The folder below which it may delete.
        transfer: How files move.
    """

    def __init__(self, base: Location, transfer: Transfer) -> None:
        self.base = base
        self._transfer = transfer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.base)!r})"

    def put(self, source: str | Path, uri: str, framework: str = "", format: str = "") -> Artifact:  # noqa: A002
        """Store a file or a folder; see ``ObjectStore``."""
        with translate_errors():
            target, source = self._location(uri), Path(source)
            if not source.is_dir():
                return upload_file(self._transfer, source, uri)
            if not target.key.strip("/"):
                raise TransferError(f"{uri} is not a folder", "name a folder in the bucket")
            files = files_below(source)
            artifact = upload_files(self._transfer, files, uri, framework, format)
            self._remove(target, set(self._transfer.entries(target)) - set(files) - {MANIFEST})
            return artifact

    def get(self, uri: str, target: str | Path) -> Artifact:
        """Bring an object or a folder; see ``ObjectStore``."""
        with translate_errors():
            self._location(uri)
            return download(self._transfer, uri, Path(target).absolute())

    def list(self, uri: str) -> list[Entry]:
        """Return every object below a folder; see ``ObjectStore``."""
        with translate_errors():
            return sorted(self._transfer.entries(self._location(uri)).values())

    def copy(self, source: str, target: str) -> None:
        """Copy an object or a folder; see ``ObjectStore``."""
        with translate_errors():
            origin, destination = self._location(source), self._location(target)
            if origin.holds(destination) or destination.holds(origin):
                message = f"{target} cannot be a copy of {source}: one contains the other"
                raise TransferError(message, "name another folder")
            if entries := self._transfer.entries(origin):
                self._copy_folder(origin, destination, set(entries))
            elif self._transfer.entry(origin) is not None:
                self._copy({origin: destination})
            else:
                raise MissingError(f"nothing is stored at {origin}", "check the URI, or train the model first")

    def _copy_folder(self, origin: Location, destination: Location, names: set[str]) -> None:
        """Copy a folder's objects, or those that its manifest names; the manifest last."""
        last = names & {MANIFEST}
        files = named_files(read_manifest(self._transfer, origin), origin, names) if last else names
        self._copy({origin / name: destination / name for name in sorted(files)})
        self._copy({origin / name: destination / name for name in last})
        self._remove(destination, set(self._transfer.entries(destination)) - files - last)

    def delete(self, uri: str) -> None:
        """Delete an object or a folder; see ``ObjectStore``."""
        with translate_errors():
            target = self._location(uri)
            if not self.base.holds(target) or not target.key.strip("/"):
                raise TransferError(f"{uri} is not below {self.base}", "only what is in the store can be deleted")
            self._delete(target)

    def exists(self, uri: str) -> bool:
        """Whether there is an object or a folder; see ``ObjectStore``."""
        with translate_errors():
            target = self._location(uri)
            return self._transfer.entry(target) is not None or bool(self._transfer.entries(target))

    def read(self, uri: str) -> bytes:
        """Return an object's bytes; see ``ObjectStore``."""
        with translate_errors():
            return self._transfer.read(self._location(uri))

    def write(self, uri: str, data: bytes) -> None:
        """Store bytes as an object; see ``ObjectStore``."""
        with translate_errors():
            self._transfer.write(self._location(uri), data)

    def manifest(self, uri: str) -> Manifest:
        """Return what a saved folder holds; see ``ObjectStore``."""
        with translate_errors():
            return read_manifest(self._transfer, self._location(uri))

    def _location(self, uri: str) -> Location:
        location = Location.parse(uri)
        if bool(location.bucket) != bool(self.base.bucket):
            kind = "an S3 server" if self.base.bucket else "a directory"
            raise TransferError(f"{uri} is not in the store, which is {kind}", "set KAPTAIN_STORAGE_URI to its base")
        return location

    @abstractmethod
    def _copy(self, objects: Mapping[Location, Location]) -> None:
        """Copy objects to their new places."""

    @abstractmethod
    def _remove(self, folder: Location, names: set[str]) -> None:
        """Remove objects of a folder."""

    @abstractmethod
    def _delete(self, target: Location) -> None:
        """Remove an object and all below it."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the runtime's errors into those of the package."""
    try:
        yield
    except TransferError as error:
        kind = next((ours for theirs, ours in _CLASSES.items() if isinstance(error, theirs)), StorageError)
        raise kind(error.message, error.hint) from error.__cause__

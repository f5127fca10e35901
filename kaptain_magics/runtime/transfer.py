"""Moves files and folders between this machine and the store, checked by sha256."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from kaptain_magics.runtime.directory import DirectoryTransfer, Entry, atomic_write, translate_os_errors
from kaptain_magics.runtime.folders import private_folder
from kaptain_magics.runtime.job_errors import DamagedError, MissingError, TransferError
from kaptain_magics.runtime.location import Location
from kaptain_magics.runtime.manifest import MANIFEST, Manifest


class Artifact(NamedTuple):
    """What was stored or fetched.

    Attributes:
        uri: Where it is in the store.
        files: sha256 (hex) of every file by path relative to ``uri``; for a single object by its own name.
        size: Bytes of all files.
        framework: The framework that a folder was saved for, empty when unknown.
        format: The file format, empty when unknown.
    """

    uri: str
    files: dict[str, str]
    size: int
    framework: str = ""
    format: str = ""


class Transfer(Protocol):
    """One kind of store. Objects appear whole or not at all; errors are ``TransferError``."""

    def entries(self, folder: Location) -> dict[str, Entry]:
        """Return every object below a folder by its relative path; nothing when the folder is not there."""

    def entry(self, target: Location) -> Entry | None:
        """Return the object itself, or ``None``."""

    def send(self, source: Path, target: Location, existing: Entry | None = None) -> str:
        """Store a file and return its sha256; ``existing`` is the object that is there already."""

    def send_all(self, files: Mapping[str, Path], folder: Location, existing: Mapping[str, Entry]) -> dict[str, str]:
        """Store files below a folder; returns their sha256 by name."""

    def fetch(self, source: Location, target: Path, entry: Entry) -> str:
        """Bring the object ``entry`` to a file and return its sha256."""

    def fetch_all(self, names: Mapping[str, Path], folder: Location, entries: Mapping[str, Entry]) -> dict[str, str]:
        """Bring objects of a folder to files; returns their sha256 by name."""

    def read(self, source: Location) -> bytes:
        """Return an object's bytes, all in memory; ``MissingError`` where there is none."""

    def write(self, target: Location, data: bytes) -> None:
        """Store bytes as an object."""


def connect(uri: str, env: Mapping[str, str] | None = None) -> Transfer:
    """Return the transfer for a URI's kind of store; nothing is sent yet.

    Args:
        uri: ``file:///...`` or ``s3://bucket/...``.
        env: Settings and credentials of S3 under the names of the environment; that of this process by default.
    """
    if not Location.parse(uri).bucket:
        return DirectoryTransfer()
    from kaptain_magics.runtime.s3 import S3Transfer

    return S3Transfer(os.environ if env is None else env)


def upload_file(transfer: Transfer, source: Path, uri: str) -> Artifact:
    """Store one file as the object ``uri``."""
    target = Location.parse(uri)
    size = _regular(source).stat().st_size
    digest = transfer.send(source, target, transfer.entry(target))
    return Artifact(str(target), {target.key.replace(os.sep, "/").rpartition("/")[2]: digest}, size)


def upload_files(
    transfer: Transfer, files: Mapping[str, Path], uri: str, framework: str = "", format_: str = "", merge: bool = False
) -> Artifact:
    """Store files below the folder ``uri``, its manifest last.

    What an interrupted call has stored already is not sent again.

    Args:
        transfer: The store.
        files: Files to store by path relative to the folder.
        uri: The folder.
        framework: The framework that they were saved for.
        format_: Their file format.
        merge: Keep what the folder's manifest names besides these files.

    Returns:
        The whole folder as its manifest has it.
    """
    folder = Location.parse(uri)
    stored = transfer.entries(folder)
    earlier = read_manifest(transfer, folder) if merge and MANIFEST in stored else Manifest({}, 0)
    sizes = {name: entry.size for name, entry in stored.items()}
    sizes |= {name: source.stat().st_size for name, source in files.items()}
    digests = transfer.send_all(files, folder, stored)
    earlier_files = {name: digest for name, digest in earlier.files.items() if name in sizes}
    manifest = Manifest(
        files={**earlier_files, **digests},
        size=sum(sizes[name] for name in {**earlier_files, **digests}),
        framework=framework or earlier.framework,
        format=earlier.format or format_,  # the model comes first, what belongs to it later
    )
    transfer.write(folder / MANIFEST, manifest.encode())
    return Artifact(str(folder), manifest.files, manifest.size, manifest.framework, manifest.format)


def download(transfer: Transfer, uri: str, target: Path) -> Artifact:
    """Bring an object or a folder here.

    A folder with a manifest is checked against it, and only what it names is brought. An absent ``target`` folder
    appears when all of it is there and right; in an existing one every file appears by itself.

    Args:
        transfer: The store.
        uri: The object or folder.
        target: The file or folder to make.

    Raises:
        MissingError: Nothing is stored at ``uri``.
        DamagedError: A file is missing or is not what was saved.
    """
    source = Location.parse(uri)
    stored = transfer.entries(source)
    if not stored:
        entry = transfer.entry(source)
        if entry is None:
            raise MissingError(f"nothing is stored at {source}", "check the URI, or train the model first")
        return Artifact(str(source), {entry.path: transfer.fetch(source, target, entry)}, entry.size)
    if target.exists():
        return _download_folder(transfer, source, stored, target, target)
    staging = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        artifact = _download_folder(transfer, source, stored, staging, target)
        with translate_os_errors(target):
            os.replace(staging, target)
    finally:
        _discard(staging)
    return artifact


def _download_folder(
    transfer: Transfer, source: Location, stored: Mapping[str, Entry], target: Path, shown: Path
) -> Artifact:
    manifest = read_manifest(transfer, source) if MANIFEST in stored else None
    names = sorted(stored if manifest is None else named_files(manifest, source, set(stored)))
    with translate_os_errors(shown):
        private_folder(target)
    digests = transfer.fetch_all({name: target.joinpath(*name.split("/")) for name in names}, source, stored)
    if manifest is None:
        return Artifact(str(source), digests, sum(stored[name].size for name in digests))
    for name, digest in manifest.files.items():
        if digests[name] != digest:
            target.joinpath(*name.split("/")).unlink(missing_ok=True)
            raise DamagedError(
                f"{source / name} is not what was saved: its sha256 differs from the manifest's",
                "do not load it; save the model again",
            )
    with translate_os_errors(shown), atomic_write(target / MANIFEST) as file:
        file.write(manifest.encode())
    return Artifact(str(source), manifest.files, manifest.size, manifest.framework, manifest.format)


def read_manifest(transfer: Transfer, folder: Location) -> Manifest:
    """Return what a saved folder holds; without a manifest it is missing or incomplete."""
    return Manifest.decode(transfer.read(folder / MANIFEST), str(folder))


def named_files(manifest: Manifest, folder: Location, stored: set[str]) -> set[str]:
    """Return the files that a folder's manifest names; all must be ``there``."""
    if absent := sorted(set(manifest.files) - stored):
        raise DamagedError(f"{absent[0]} is missing in {folder}, though its manifest lists it", "save the model again")
    return set(manifest.files)


def _discard(folder: Path) -> None:
    if folder.exists():
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def files_below(folder: Path) -> dict[str, Path]:
    """Return the files of a local folder by their relative path with slashes; links are followed.

    Raises:
        TransferError: It holds a link to one of its own folders, a socket, a pipe or a device.
    """
    return dict(_walk(folder, "", frozenset()))


def _walk(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, Path]]:
    with translate_os_errors(folder):
        real = os.path.realpath(folder)
        if real in above:
            raise TransferError(f"{folder} links to a folder that contains it", "remove the link")
        items = sorted(os.scandir(folder), key=lambda item: item.name)
    for item in items:
        if item.is_dir():
            yield from _walk(Path(item.path), f"{prefix}{item.name}/", above | {real})
        elif prefix or item.name != MANIFEST:
            yield prefix + item.name, _regular(Path(item.path))


def _regular(path: Path) -> Path:
    if path.is_file():
        return path
    if path.exists():
        raise TransferError(f"{path} is not a regular file", "store files and folders only")
    raise MissingError(f"there is no file {path}", "check the path")

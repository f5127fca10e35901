"""What our runtime and server need, for the Python of an image: from this environment where it fits, else by pip.

Both give a folder of installed packages in the versions of this environment, kept in the cache.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import platform as machine_info
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kaptain_magics.errors import ImageError
from kaptain_magics.files import disk_error, locked, write_whole
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.requirement_lines import normalised
from kaptain_magics.images.tar_files import write_tar
from kaptain_magics.images.wheels import Platform, install
from kaptain_magics.runtime.own_requirements import OPTIONAL

_NOT_NEEDED = {"__pycache__", "tests", "SelfTest"}  # folders
_SOURCES = {".pyc", ".c", ".h", ".cpp", ".pyx", ".pxd", ".pyi", ".a"}
_NOTES = {"direct_url.json", "RECORD"}  # of where a package came from: a path of this machine


class Bundle(NamedTuple):
    """An archive with a folder for every distribution.

    Attributes:
        path: Where it is on this machine.
        digest: sha256 of it.
    """

    path: Path
    digest: str


def platform_name(platform: Platform) -> str:
    """Return a platform's name, such as ``cp311-x86_64-glibc``, as a pod names its own."""
    python = platform.python.replace(".", "")
    return f"cp{python}-{platform.machine}-{'glibc' if platform.glibc else 'musl'}"


def this_platform() -> Platform | None:
    """Return the platform of this process; ``None`` where an image cannot have the same."""
    libc, version = machine_info.libc_ver()
    if sys.platform != "linux" or libc != "glibc" or sys.implementation.name != "cpython":
        return None
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Platform(python, machine_info.machine(), int(version.split(".")[1]))


def fetch_runtime_packages(
    requirements: Sequence[str],
    platform: Platform,
    cache: Path,
    progress: Progress,
    installed: Mapping[str, str] | None = None,
) -> Path:
    """Have packages in a folder, in the versions of this environment.

    Args:
        requirements: What is needed, with its bounds.
        platform: What it must fit.
        cache: Folder for things that can be made again.
        progress: Called while pip works.
        installed: Versions of what the image has, by normalised name: that is not brought again.

    Raises:
        ImageError: They cannot be had.
    """
    dists = _distributions(requirements)
    brought = {name: dist for name, dist in dists.items() if name not in (installed or {})}
    if _fits(platform) and all(map(_portable, dists.values())):
        return _copied(brought, cache)
    direct = {_name(line) for line in requirements}
    pins = [f"{name}=={dist.version}" for name, dist in dists.items() if installed is None or name in direct]
    choices = [pins, list(requirements), [line for line in requirements if _name(line) not in OPTIONAL]]
    failure: ImageError | None = None
    for lines in choices:  # this environment's versions first; an older Python may need others
        try:
            return install(lines, platform, cache, progress, installed)
        except ImageError as error:
            failure = failure or error
    if _fits(platform) and all(dist.files is not None for dist in dists.values()):
        return _copied(brought, cache)
    raise failure or ImageError(f"{', '.join(requirements)} cannot be downloaded", "use a base image that has them")


def bundle(folder: Path, cache: Path) -> Bundle:
    """Pack a folder of installed packages, so that a pod can take from it what its image lacks.

    Raises:
        ImageError: The disk is full, or a file cannot be read.
    """
    target = cache / "bundles" / f"{folder.name}.tar.gz"
    note = target.with_suffix(".sha256")
    try:
        if not note.exists():
            dists = {
                normalised(dist.metadata["Name"]): dist for dist in importlib.metadata.distributions(path=[str(folder)])
            }
            entries = [
                Entry("index.json", json.dumps({name: dist.version for name, dist in sorted(dists.items())}).encode())
            ]
            for name, dist in dists.items():
                entries += [entry._replace(path=f"{name}/{entry.path}") for entry in _files_of(dist)]
            raw = io.BytesIO()
            write_tar(raw, entries, "packages")
            packed = gzip.compress(raw.getvalue(), 3, mtime=0)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, packed)
            write_whole(note, hashlib.sha256(packed).hexdigest().encode())
        return Bundle(target, note.read_text("ascii"))
    except OSError as error:
        raise disk_error(error, target) from error


def versions_in(folder: Path) -> dict[str, str]:
    """Return the versions of the distributions in a folder, by normalised name."""
    distributions = importlib.metadata.distributions(path=[str(folder)])
    return {normalised(dist.metadata["Name"]): dist.version for dist in distributions}


def locked_versions(requirements: Sequence[str]) -> dict[str, str]:
    """Return requirements and all that they need, in the versions of this environment, by normalised name.

    Raises:
        ImageError: One is not installed.
    """
    return {name: dist.version for name, dist in _distributions(requirements).items()}


def _distributions(requirements: Sequence[str]) -> dict[str, importlib.metadata.Distribution]:
    """Return the distributions of this environment that are needed, by normalised name."""
    from packaging.requirements import Requirement

    distributions: dict[str, importlib.metadata.Distribution] = {}
    open_ends = [Requirement(line) for line in requirements]
    while open_ends:
        line = open_ends.pop()
        name = normalised(line.name)
        if name in distributions or (line.marker is not None and not line.marker.evaluate({"extra": ""})):
            continue
        try:
            distributions[name] = importlib.metadata.distribution(line.name)
        except importlib.metadata.PackageNotFoundError:
            if name not in OPTIONAL:
                raise ImageError(
                    f"{line.name} is not installed beside this notebook", f"pip install {line.name}"
                ) from None
            continue
        open_ends += map(Requirement, distributions[name].requires or ())
    return dict(sorted(distributions.items()))


def _name(line: str) -> str:
    from packaging.requirements import Requirement

    return normalised(Requirement(line).name)


def _fits(platform: Platform) -> bool:
    ours = this_platform()
    return ours is not None and platform_name(ours) == platform_name(platform)


def _portable(dist: importlib.metadata.Distribution) -> bool:
    """Whether an installed distribution came from a wheel for many machines."""
    tags = [
        line.partition(":")[2].strip()
        for line in (dist.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag:")
    ]
    editable = '"editable": true' in (dist.read_text("direct_url.json") or "")
    return dist.files is not None and not editable and bool(tags) and all(_for_many(tag) for tag in tags)


def _for_many(tag: str) -> bool:
    return tag.endswith("-any") or "manylinux" in tag


def _files_of(dist: importlib.metadata.Distribution) -> Iterator[Entry]:
    for file in dist.files or ():
        path = PurePosixPath(str(file))
        left_out = _NOT_NEEDED.intersection(path.parts) or path.suffix in _SOURCES or path.name in _NOTES
        if left_out or path.is_absolute() or ".." in path.parts:
            continue
        real = Path(str(dist.locate_file(file)))
        if real.is_file():
            yield Entry(str(path), real)


def _copied(dists: Mapping[str, importlib.metadata.Distribution], cache: Path) -> Path:
    """Copy distributions of this environment into a folder."""
    ours = this_platform()
    parts = [*(f"{name}=={dist.version}" for name, dist in dists.items()), platform_name(ours) if ours else ""]
    folder = cache / "own" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{folder.name}.lock", timeout=120.0):
            if not folder.is_dir():
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
                    new = Path(scratch) / "packages"
                    for dist in dists.values():
                        _copy(dist, new)
                    new.mkdir(exist_ok=True)
                    os.replace(new, folder)
    except OSError as error:
        raise disk_error(error, folder) from error
    return folder


def _copy(dist: importlib.metadata.Distribution, folder: Path) -> None:
    entries = list(_files_of(dist))
    for entry in entries:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(entry.source), target)
    metadata = next((entry.path for entry in entries if entry.path.endswith("/METADATA")), "")
    if metadata:  # what is here now, for readers of the folder
        record = folder / PurePosixPath(metadata).parent / "RECORD"
        record.write_text("".join(f"{entry.path},,\n" for entry in entries), encoding="utf-8")

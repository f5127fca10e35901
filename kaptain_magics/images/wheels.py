"""Requirements for another machine: pip picks and unpacks the wheels of the image's Python and platform here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kaptain_magics.core.secrets import without_passwords
from kaptain_magics.errors import ImageError
from kaptain_magics.files import disk_error, locked, private_folder
from kaptain_magics.images.content_digest import FileDigests
from kaptain_magics.images.progress import Progress, run_process
from kaptain_magics.images.requirement_lines import local_files, name_of, normalised

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "ppc64le": "ppc64le", "s390x": "s390x"}
_LEGACY = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}  # by the minor version of glibc
_OLDEST_GLIBC = 28  # minor version of Debian 10 and RHEL 8: where an image cannot be asked, wheels must fit this


class Platform(NamedTuple):
    """What a wheel must fit.

    Attributes:
        python: Python's version, such as ``3.11``.
        machine: The processor as wheels name it, such as ``x86_64``.
        glibc: Minor version of glibc 2; 0 where the image has musl instead.
    """

    python: str
    machine: str
    glibc: int = _OLDEST_GLIBC

    @classmethod
    def of(cls, python: str, architecture: str, musl: bool = False) -> Platform:
        """Return the platform of an image of that ``architecture`` (``amd64``, ``arm64`` ...)."""
        return cls(python, _MACHINES.get(architecture, architecture), 0 if musl else _OLDEST_GLIBC)

    @property
    def tags(self) -> list[str]:
        """The platform tags of wheels that fit, the best first."""
        if not self.glibc:
            return [f"musllinux_1_{minor}_{self.machine}" for minor in (2, 1)]
        tags = []
        for minor in range(self.glibc, 4, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY:
                tags.append(f"{_LEGACY[minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]


def install(
    requirements: Sequence[str],
    platform: Platform,
    cache: Path,
    progress: Progress,
    installed: Mapping[str, str] | None = None,
) -> Path:
    """Unpack the wheels of requirements and of what they need into a folder; nothing is done where it is there already.

    Args:
        requirements: Lines of a pip requirements file.
        platform: What the wheels must fit.
        cache: Folder for things that can be made again.
        progress: Called while pip works.
        installed: Versions of what the image has, by normalised name: such packages are not fetched again.

    Returns:
        The folder, to be put on ``PYTHONPATH``.

    Raises:
        ImageError: There are no such wheels, or pip cannot reach its index.
    """
    files = FileDigests.under(cache)
    local = [files.of(path) for path in local_files(requirements)]
    files.save()
    parts = [*requirements, *local, "", *platform.tags, platform.python, json.dumps(sorted((installed or {}).items()))]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    folder = cache / "wheels" / key
    if folder.is_dir():
        return folder
    try:
        private_folder(folder.parent)
        with locked(cache / "wheels" / f".{key}.lock", timeout=900.0):
            if not folder.is_dir():
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
                    _install(requirements, platform, Path(scratch), progress, installed or {})
                    os.replace(Path(scratch) / "packages", folder)
    except OSError as error:
        raise disk_error(error, folder) from error
    return folder


def _install(
    requirements: Sequence[str], platform: Platform, scratch: Path, progress: Progress, installed: Mapping[str, str]
) -> None:
    requirements_file = scratch / "requirements.txt"
    _write(requirements_file, requirements)
    (scratch / "packages").mkdir()
    fits = ["--only-binary=:all:", "--implementation", "cp", "--python-version", platform.python]
    for tag in platform.tags:
        fits += ["--platform", tag]
    command = ["install", "--quiet", "--no-input", "--no-warn-conflicts", "--no-compile", "--ignore-installed", *fits]
    command += ["--target", str(scratch / "packages")]
    if installed:
        resolved = _resolve(command, requirements_file, platform, scratch, progress, installed)
        lacking = {name for name, item in resolved.items() if _is_lacking(item, installed)}
        if not lacking:
            return
        kept = [line for line in requirements if (name := name_of(line)) not in resolved or name in lacking]
        dependencies = [_pinned_line(resolved[name]) for name in sorted(lacking) if not resolved[name]["requested"]]
        _write(requirements_file, [*kept, *dependencies])
        _write(scratch / "chosen.txt", [f"{name}=={item['metadata']['version']}" for name, item in resolved.items()])
        command += ["--no-deps", "-c", str(scratch / "chosen.txt")]
    status, output = _pip([*command, "-r", str(requirements_file)], progress)
    if status:
        raise _failure(output, platform)
    shutil.rmtree(scratch / "packages" / "bin", ignore_errors=True)  # its scripts name this machine's Python
    _remove_origins(scratch / "packages")


def _resolve(
    command: Sequence[str],
    requirements_file: Path,
    platform: Platform,
    scratch: Path,
    progress: Progress,
    installed: Mapping[str, str],
) -> dict[str, Any]:
    """Return pip's report on every package that it would install, by normalised name; the image's versions first."""
    constraints, report = scratch / "constraints.txt", scratch / "report.json"
    _write(constraints, [f"{name}=={version}" for name, version in installed.items()])
    resolve = [*command, "--dry-run", "--report", str(report), "-r", str(requirements_file)]
    status, output = _pip([*resolve, "-c", str(constraints)], progress)
    if status:  # the image's versions do not do
        status, output = _pip(resolve, progress)
    if status:
        raise _failure(output, platform)
    return {normalised(item["metadata"]["name"]): item for item in json.loads(report.read_bytes())["install"]}


def _is_lacking(item: Mapping[str, Any], installed: Mapping[str, str]) -> bool:
    metadata = item["metadata"]
    return bool(item["is_direct"]) or installed.get(normalised(metadata["name"])) != metadata["version"]


def _pinned_line(item: Mapping[str, Any]) -> str:
    """Return the line that asks for a package that another one needs: just what pip chose."""
    metadata = item["metadata"]
    return (
        f"{metadata['name']} @ {item['download_info']['url']}"
        if item["is_direct"]
        else f"{metadata['name']}=={metadata['version']}"
    )


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _remove_origins(packages: Path) -> None:
    """Remove what pip notes of where a package came from: a path of this machine, or an address that is private."""
    for origin in packages.glob("*.dist-info/direct_url.json"):
        origin.unlink()
        record = origin.with_name("RECORD")
        lines = record.read_text("utf-8").splitlines(keepends=True)
        record.write_text("".join(line for line in lines if "direct_url.json," not in line), encoding="utf-8")


def _pip(arguments: Sequence[str], progress: Progress) -> tuple[int, str]:
    return run_process([sys.executable, "-m", "pip", *arguments], progress)


def _failure(output: str, platform: Platform) -> ImageError:
    lines = [line.removeprefix("ERROR:").strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in output.splitlines() if line.startswith("ERROR:")]
    reason = without_passwords((errors or lines or ["pip gave no output"])[-1])
    if "No module named pip" in output:
        return ImageError("pip is not installed beside this notebook", "python -m ensurepip")
    return ImageError(
        f"the requirements cannot be installed for Python {platform.python} on {platform.machine}: {reason}",
        "check names and versions; what has no wheel needs a Docker engine to build it, or a base image that has it",
    )

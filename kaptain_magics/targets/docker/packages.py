"""Requirements that an image lacks: fetched here, kept in the engine as a volume, mounted into containers."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from kaptain_magics.errors import StateError, TargetError
from kaptain_magics.files import locked, write_whole
from kaptain_magics.images.context import FOLDER, PACKAGES, Entry
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.layers import files_below
from kaptain_magics.images.wheels import Platform, install
from kaptain_magics.targets.docker.container import MANAGED, owner
from kaptain_magics.targets.docker.files import archive, put_in

_COMPLETE = ".complete"
_LOOK = """
import json, os, platform, re, sys
from importlib import metadata
found = {}
for dist in metadata.distributions():
    name = dist.metadata["Name"]
    if name:
        found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), dist.version)
libc, version = platform.libc_ver()
glibc = int(version.split(".")[1]) if libc == "glibc" else 0
python = "%d.%d" % sys.version_info[:2]
print(json.dumps({"python": python, "machine": platform.machine(), "glibc": glibc, "installed": found}))
"""


class Inside(msgspec.Struct, frozen=True):
    """What is in an image.

    Attributes:
        python: Python's version, such as ``3.11``.
        machine: The processor, such as ``x86_64``.
        glibc: Minor version of glibc 2, 0 for musl.
        installed: Versions of the installed distributions by normalised name.
    """

    python: str
    machine: str
    glibc: int
    installed: dict[str, str]

    @property
    def platform(self) -> Platform:
        """What a wheel for this image must fit."""
        return Platform(self.python, self.machine, self.glibc)

    def missing(self, requirements: Sequence[str]) -> list[str]:
        """Return the requirements that the image does not satisfy, options of pip included when there are any."""
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name

        environment = {"python_version": self.python, "platform_machine": self.machine, "sys_platform": "linux"}
        lines, options = [], []
        for line in requirements:
            text = line.partition(" #")[0].strip()
            if not text or text.startswith("#"):
                continue
            if text.startswith("-"):
                options.append(text)
                continue
            try:
                wanted = Requirement(text)
            except InvalidRequirement:
                lines.append(text)
                continue
            if wanted.marker is not None and not wanted.marker.evaluate(environment):
                continue
            version = self.installed.get(canonicalize_name(wanted.name))
            if version is None or wanted.url or not wanted.specifier.contains(version, prereleases=True):
                lines.append(text)
        return [*options, *lines] if lines else []


class Packages:
    """Looks into images and keeps what they lack.

    Args:
        engine: The engine.
        cache: Folder for things that can be made again.
        home: The state folder that the volumes belong to.
    """

    def __init__(self, engine: Engine, cache: Path, home: Path) -> None:
        self._engine, self._cache, self._home = engine, cache, home

    def known(self, image_id: str) -> Inside | None:
        """Return what is in an image if somebody has looked before."""
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(self._note(image_id).read_bytes(), type=Inside)
        return None

    def look(self, image: str, image_id: str) -> Inside:
        """Return what is in an image; a container without network looks where nobody has before.

        Raises:
            TargetError: The image has no Python.
        """
        found = self.known(image_id)
        if found is not None:
            return found
        from docker import errors

        with self._engine.told(image):
            try:
                said = self._engine.client.containers.run(
                    image_id,
                    entrypoint=["python", "-I", "-c", _LOOK],
                    network_mode="none",
                    remove=True,
                    labels={**MANAGED, "kaptain.owner": owner(self._home), "kaptain.kind": "look"},
                )
            except errors.ContainerError as error:
                reason = str(error).splitlines()[-1][-200:]
                raise TargetError(
                    f"Python in the image {image} does not start: {reason}",
                    "use an image with Python 3.8 or later",
                ) from error
        found = msgspec.convert(json.loads(said), Inside)
        with suppress(StateError):
            write_whole(self._note(image_id), msgspec.json.encode(found))
        return found

    def prepare(self, inside: Inside, missing: Sequence[str]) -> Generator[str, None, Volume]:
        """Fetch what an image lacks and return the volume that is to hold it.

        Yields:
            Empty lines while pip works.

        Raises:
            ImageError: It cannot be had.
        """
        folder = yield from install(missing, inside.platform, self._cache, inside.installed)
        return Volume(f"kaptain-packages-{folder.name}", folder, self._cache, self._home)

    def _note(self, image_id: str) -> Path:
        return self._cache / "docker" / "images" / f"{image_id.rpartition(':')[2]}.json"


class Volume:
    """A volume of installed packages.

    Attributes:
        name: Its name in the engine.
    """

    def __init__(self, name: str, folder: Path, cache: Path, home: Path) -> None:
        self.name, self._folder, self._cache, self._home = name, folder, cache, home

    @property
    def mounts(self) -> dict[str, dict[str, str]]:
        """How a container mounts it."""
        return {self.name: {"bind": f"{FOLDER}/{PACKAGES}", "mode": "ro"}}

    def fill(self, engine: Engine, image_id: str) -> None:
        """Make the volume and put the packages into it, once; a container that never starts takes them in.

        Raises:
            TargetError: The engine does not answer, or its disk is full.
        """
        from docker import errors

        labels = {**MANAGED, "kaptain.owner": owner(self._home), "kaptain.kind": "packages"}
        place = f"{FOLDER}/{PACKAGES}"
        with locked(self._cache / "docker" / f".{self.name}.lock", patience=600.0), engine.told():
            engine.client.volumes.create(self.name, labels=labels)
            helper = engine.client.containers.create(
                image_id, ["true"], labels=labels, volumes={self.name: {"bind": place, "mode": "rw"}}
            )
            try:
                try:
                    pieces, _ = helper.get_archive(f"{place}/{_COMPLETE}")
                    list(pieces)
                except errors.NotFound:
                    put_in(engine, helper, archive(files_below(self._folder), place))
                    put_in(engine, helper, archive([Entry(_COMPLETE, b"")], place))
            finally:
                helper.remove(force=True)

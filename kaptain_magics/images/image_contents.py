"""What Python and which packages an image has: asked in a container, or read from its layers in a registry."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from kaptain_magics.errors import ImageError, StateError, TargetError
from kaptain_magics.files import write_whole
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.registry.layer_names import names_in_layer
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_client import Manifest, Registry
from kaptain_magics.images.requirement_lines import bare, normalised
from kaptain_magics.images.wheels import Platform

_PROBE = """
import json, platform, re, sys
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
_IN_LAYER = re.compile(
    r"(?:^|/)lib/python3(?:\.\d+)?/(?:site|dist)-packages/([^/]+?)-([^-/]+?)(?:-py[\d.]+)?\.(?:dist|egg)-info"
)
_INTERPRETER = re.compile(r"(?:^|/)bin/python(3\.\d+)$")
_MUSL = re.compile(r"^(?:\./)?lib/ld-musl-")


class ImageContents(msgspec.Struct, frozen=True):
    """What is in an image.

    Attributes:
        python: Python's version, such as ``3.11``.
        machine: The processor as wheels name it, such as ``x86_64``.
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
        """Return the requirements that the image does not satisfy, and pip's options when there are any."""
        from packaging.requirements import InvalidRequirement, Requirement

        environment = {"python_version": self.python, "platform_machine": self.machine, "sys_platform": "linux"}
        lines, options = [], []
        for line in requirements:
            text = bare(line)
            if text.startswith("-"):
                options.append(line)
                continue
            if not text:
                continue
            try:
                requirement = Requirement(text)
            except InvalidRequirement:  # a path or an address: pip's to judge
                lines.append(line)
                continue
            if requirement.marker is not None and not requirement.marker.evaluate(environment):
                continue
            version = self.installed.get(normalised(requirement.name))
            if version is None or requirement.url or not requirement.specifier.contains(version, prereleases=True):
                lines.append(line)
        if lines and any("--hash" in line for line in requirements):
            return list(requirements)  # with hashes pip requires them all
        return [*options, *lines] if lines else []


class ImageInspector:
    """Looks into images, and remembers what was there.

    Args:
        cache: Folder for things that can be made again.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "images"

    def cached(self, digest: str) -> ImageContents | None:
        """Return what is in an image if it was inspected before."""
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(self._cache_file(digest).read_bytes(), type=ImageContents)
        return None

    def in_engine(
        self, engine: Engine, name: str, image_id: str, labels: Mapping[str, str] | None = None
    ) -> ImageContents:
        """Ask Python in a container without network.

        Args:
            engine: The engine.
            name: The image's name, for messages.
            image_id: Its id.
            labels: Labels of the container.

        Raises:
            TargetError: The image has no Python.
        """
        contents = self.cached(image_id)
        if contents is not None:
            return contents
        from docker import errors

        client = engine.client
        with engine.translate_errors(name):
            try:
                output = client.containers.run(
                    image_id,
                    entrypoint=["python", "-I", "-c", _PROBE],
                    network_mode="none",
                    remove=True,
                    labels=dict(labels or {}),
                )
            except errors.ContainerError as error:
                reason = str(error).splitlines()[-1][-200:]
                hint = "use an image with Python 3.8 or later"
                raise TargetError(f"Python in the image {name} does not start: {reason}", hint) from error
        return self._keep(image_id, msgspec.convert(json.loads(output), ImageContents))

    def in_registry(self, registry: Registry, image: Reference, manifest: Manifest) -> ImageContents:
        """Read the names of the files in an image's layers.

        Raises:
            ImageError: There is no Python in it, or a layer cannot be read.
        """
        contents = self.cached(manifest.digest)
        if contents is not None:
            return contents
        installed: dict[str, str] = {}
        pythons: list[str] = []
        musl = False
        for layer in manifest.fields["layers"]:
            for name in names_in_layer(registry.read_blob(image, layer["digest"]), layer["mediaType"]):
                match = _IN_LAYER.search(name)
                if match is not None:
                    installed[normalised(match[1])] = match[2]
                interpreter = _INTERPRETER.search(name)
                if interpreter is not None and interpreter[1] not in pythons:
                    pythons.append(interpreter[1])
                musl = musl or _MUSL.search(name) is not None
        if not pythons:
            raise ImageError(f"there is no Python in the image {image}", "use another base image")
        config = registry.config(image, manifest)
        env = dict(line.partition("=")[::2] for line in config.get("config", {}).get("Env") or ())
        named = ".".join(env.get("PYTHON_VERSION", "").split(".")[:2])
        python = named if named in pythons else pythons[-1]  # a later layer's comes first on PATH
        platform = Platform.of(python, config.get("architecture", "amd64"), musl)
        return self._keep(manifest.digest, ImageContents(python, platform.machine, platform.glibc, installed))

    def _keep(self, digest: str, contents: ImageContents) -> ImageContents:
        with suppress(StateError):
            write_whole(self._cache_file(digest), msgspec.json.encode(contents))
        return contents

    def _cache_file(self, digest: str) -> Path:
        return self._folder / f"{digest.rpartition(':')[2]}.json"

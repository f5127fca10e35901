"""Base images: which ones a Dockerfile names, what their names mean now, and the platform that they are taken for."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import NamedTuple

from kaptain_magics.errors import CredentialsError, ImageError
from kaptain_magics.images.engine import Engine, docker_platform
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_client import Registries

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")


class Base(NamedTuple):
    """A base image, found.

    Attributes:
        name: Its name.
        digest: What it is now: a manifest's digest, or an id in the engine.
        in_engine: Whether the engine has it.
    """

    name: str
    digest: str
    in_engine: bool


class Bases:
    """Finds base images.

    Args:
        engine: The engine.
        registries: The registries.
        use_engine: Whether the engine may be asked.
    """

    def __init__(self, engine: Engine, registries: Registries, use_engine: bool = True) -> None:
        self._engine, self._registries, self._use_engine = engine, registries, use_engine

    def find(self, name: str) -> Base:
        """Find out what a base image's name means now; a registry that is away is waited for.

        Raises:
            ImageError: It is neither in the engine nor in its registry.
        """
        reference = Reference.parse(name)
        failure: ImageError | CredentialsError | None = None
        if self._use_engine and self._engine.answers():
            digest = self._engine.image_digest(name, reference.repository)
            if digest:
                return Base(name, digest, in_engine=True)
        try:
            in_registry = self._registries.of(reference).digest_of(reference)
            if in_registry:
                return Base(name, in_registry, in_engine=False)
        except (ImageError, CredentialsError) as error:
            failure = error
        reason = f": {failure.message}" if failure is not None else ""
        raise ImageError(
            f"the base image {name} is neither in a Docker engine here nor in its registry{reason}",
            failure.hint if failure is not None else "check its name, or run docker login",
        ) from failure

    def pull(self, base: Base, platform: str, progress: Progress) -> None:
        """Have a base image in the engine, by a login that the engine's builder does not have.

        Args:
            base: The base image.
            platform: The platform of the image; another one than the engine's own is left to the builder.
            progress: Called while it comes.

        Raises:
            TargetError: It cannot be pulled.
        """
        if not base.in_engine and platform == self._engine.platform:
            self._engine.pull(base.name, progress)


def image_platform(settings: Mapping[str, str]) -> str:
    """Return the platform of images: ``image_platform``, else Linux on this machine's processor."""
    return settings.get("image_platform") or docker_platform(platform.machine())


def named_images(dockerfile: str) -> list[str]:
    """Return the images that a Dockerfile starts from or copies from, in order; its own stages are none."""
    values: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    images: dict[str, None] = {}

    def substitute(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2]) or match[3] or ""

    for line in re.sub(r"\\[ \t]*\n", " ", dockerfile).splitlines():
        instruction, *arguments = line.split() or [""]
        names: list[str] = []
        if instruction.upper() == "ARG" and len(stages) == 1 and not images:
            values |= {name: value.strip("\"'") for name, _, value in (word.partition("=") for word in arguments)}
        elif instruction.upper() == "FROM":
            positional = [word for word in arguments if not word.startswith("--")]
            names = [_VARIABLE.sub(substitute, word) for word in positional[:1]]
        elif instruction.upper() in ("COPY", "ADD", "RUN"):
            names = re.findall(r"(?:^|\s)--(?:from=|mount=\S*?\bfrom=)([^\s,]+)", f" {' '.join(arguments)}")
        images |= {name: None for name in names if name and not name.isdigit() and name.lower() not in stages}
        if instruction.upper() == "FROM" and len(positional) == 3 and positional[1].upper() == "AS":
            stages.add(positional[2].lower())
    return list(images)

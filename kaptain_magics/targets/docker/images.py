"""The image that a job or a server runs in: at hand, pulled, completed with packages, or built."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.errors import TargetError, WorkloadError
from kaptain_magics.images.engine import Engine
from kaptain_magics.targets.base import Surroundings
from kaptain_magics.targets.docker.container import base_image, loopback
from kaptain_magics.targets.docker.packages import Packages, Volume

if TYPE_CHECKING:
    from docker.models.images import Image

STORAGE_PACKAGES = ("minio>=7.2",)  # what the runtime needs for s3:// beyond the standard library


class ReadyImage(NamedTuple):
    """An image that containers can be made of now.

    Attributes:
        name: Its name, for messages.
        id: Its id in the engine.
        user: The user that it names.
        volumes: Volumes with the packages that it lacks, as ``containers.create`` takes them.
        built: Whether it was built for the job and holds its script.
    """

    name: str
    id: str
    user: str = ""
    volumes: Mapping[str, dict[str, str]] = MappingProxyType({})
    built: bool = False


class Images:
    """Finds and makes images.

    Args:
        engine: The engine.
        surroundings: Cache, state folder and settings.
    """

    def __init__(self, engine: Engine, surroundings: Surroundings) -> None:
        self._engine, self._around = engine, surroundings
        self._packages = Packages(engine, surroundings.cache, surroundings.home)
        self._ready: dict[tuple[str, ...], ReadyImage] = {}

    def at_hand(self, image: ImageSpec, requirements: Sequence[str], upload_uri: str = "") -> ReadyImage | None:
        """Return the image when nothing has to be made or fetched first.

        Raises:
            TargetError: The engine does not answer.
        """
        if image.image_name:
            return None
        found = self._local(base_image(image, self._around.settings))
        if found is None:
            return None
        wanted = self._wanted(requirements, upload_uri)
        known = self._ready.get((found.id, *wanted))
        if known is not None or not wanted:
            return known or found
        inside = self._packages.known(found.id)
        return found if inside is not None and not inside.missing(wanted) else None

    def prepare(
        self, image: ImageSpec, requirements: Sequence[str], upload_uri: str = ""
    ) -> Generator[str, None, ReadyImage]:
        """Pull what is not in the engine and complete it with the packages that it lacks.

        Yields:
            Lines for the reader, empty ones while work goes on.

        Raises:
            ImageError: The packages cannot be had.
            TargetError: The image cannot be had, or the engine does not answer.
        """
        name = base_image(image, self._around.settings)
        found = self._local(name)
        if found is None:
            yield f"Pulling image {name}."
            yield from self._pull(name)
            found = self._local(name)
            if found is None:
                raise WorkloadError(f"image {name} was pulled and is not there", "run it again")
        wanted = self._wanted(requirements, upload_uri)
        if not wanted:
            return found
        return (yield from self._complete(found, wanted))

    def _complete(self, found: ReadyImage, wanted: tuple[str, ...]) -> Generator[str, None, ReadyImage]:
        inside = self._packages.look(found.name, found.id)
        missing = inside.missing(wanted)
        if missing:
            yield "Installing requirements that the image lacks: " + ", ".join(missing)
            volume: Volume = yield from self._packages.prepare(inside, missing)
            volume.fill(self._engine, found.id)
            found = found._replace(volumes=volume.mounts)
        self._ready[(found.id, *wanted)] = found
        return found

    def _wanted(self, requirements: Sequence[str], upload_uri: str) -> tuple[str, ...]:
        return (*requirements, *(STORAGE_PACKAGES if upload_uri.startswith("s3://") else ()))

    def _local(self, name: str) -> ReadyImage | None:
        from docker import errors

        client = self._engine.client
        with self._engine.told(name):
            try:
                image: Image = client.images.get(name)
            except errors.ImageNotFound:
                return None
        return ReadyImage(name, str(image.id), str(image.attrs.get("Config", {}).get("User") or ""))

    def _pull(self, name: str) -> Generator[str, None, None]:
        from docker import errors
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(name)
        with self._engine.told(name):
            try:
                for line in self._engine.client.api.pull(repository, tag or "latest", stream=True, decode=True):
                    if "error" in line:
                        raise WorkloadError(f"image {name} cannot be pulled: {line['error']}", _PULL_HINT)
                    yield ""
            except errors.APIError as error:
                said = " ".join(str(error.explanation or error).split())
                raise WorkloadError(
                    f"there is no image {name} here and it cannot be pulled: {said}", _PULL_HINT
                ) from error

    def reach(self, env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
        """Let a container reach an object store that listens on this machine's loopback address.

        Args:
            env: The container's environment.

        Returns:
            The environment and the container's network settings.

        Raises:
            TargetError: The engine is on another machine.
        """
        if not loopback(env):
            return dict(env), {}
        if self._engine.on_this_machine:
            return dict(env), {"network_mode": "host"}
        if "Desktop" in self._engine.info.get("OperatingSystem", ""):
            address = env["S3_ENDPOINT"]
            for host in ("127.0.0.1", "localhost", "[::1]"):
                address = address.replace(f"//{host}", "//host.docker.internal")
            return {**env, "S3_ENDPOINT": address}, {}
        raise TargetError(
            f"the object store {env['S3_ENDPOINT']} is on this machine only, the Docker engine on another one",
            "name an address that both reach: %config KaptainMagics.s3_endpoint",
        )


_PULL_HINT = "check the name, log in to its registry (docker login), or choose another one with --base-image"

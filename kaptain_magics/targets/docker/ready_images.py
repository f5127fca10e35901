"""The image that a job or a server runs in: at hand, pulled, completed with packages, or built."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from kaptain_magics.core.specs import ImageSpec, JobSpec
from kaptain_magics.errors import TargetError, WorkloadError
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.image_contents import ImageInspector
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.publish import Publisher
from kaptain_magics.images.recipe import CHECKSUM, recipe
from kaptain_magics.images.registry.reference import with_tag
from kaptain_magics.images.requirement_lines import shown
from kaptain_magics.images.runtime_packages import fetch_runtime_packages
from kaptain_magics.images.wheels import install
from kaptain_magics.runtime.own_requirements import OWN_PACKAGES
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.docker.container_settings import MANAGED, base_image, loopback, owner
from kaptain_magics.targets.docker.package_volume import PackageVolume


class ReadyImage(NamedTuple):
    """An image that containers can be made of now.

    Attributes:
        name: Its name, for messages.
        id: Its id in the engine.
        user: The user that it names.
        path: The ``PYTHONPATH`` that it sets.
        volumes: Volumes with the packages that it lacks, as ``containers.create`` takes them.
        built: Whether it was built for the job and holds its script.
    """

    name: str
    id: str
    user: str = ""
    path: str = ""
    volumes: Mapping[str, dict[str, str]] = MappingProxyType({})
    built: bool = False


class ImageProvider:
    """Finds and makes images.

    Args:
        engine: The engine.
        config: Cache, state folder and settings.
    """

    def __init__(self, engine: Engine, config: TargetConfig) -> None:
        self._engine, self._config = engine, config
        self._inspector = ImageInspector(config.cache)
        self._publisher = Publisher(config.cache, config.settings, engine)
        self._complete: dict[tuple[str, ...], ReadyImage] = {}
        self._built: dict[tuple[object, ...], ReadyImage] = {}
        self._building = threading.Lock()

    def find_ready(self, image: ImageSpec, requirements: Sequence[str]) -> ReadyImage | None:
        """Return the image when nothing has to be made or fetched first.

        Args:
            image: The image.
            requirements: Lines of a requirements file that it has to satisfy.

        Raises:
            TargetError: The engine does not answer.
        """
        ready = self._local(base_image(image, self._config.settings))
        if ready is None or not requirements:
            return ready
        completed = self._complete.get((ready.id, *requirements))
        if completed is not None:
            return completed
        contents = self._inspector.cached(ready.id)
        return ready if contents is not None and not contents.missing(requirements) else None

    def prepare(self, image: ImageSpec, requirements: Sequence[str], progress: Progress) -> ReadyImage:
        """Pull what is not in the engine and complete it with the packages that it lacks.

        Args:
            image: The image.
            requirements: Lines of a requirements file that it has to satisfy.
            progress: Gets lines for the reader, empty ones while work goes on.

        Raises:
            ImageError: The packages cannot be had.
            TargetError: The image cannot be had, or the engine does not answer.
        """
        return self._completed(self._pulled(base_image(image, self._config.settings), progress), requirements, progress)

    def built(self, job: JobSpec) -> ReadyImage | None:
        """Return the image that was built for the job's script before, such as for another trial of its study."""
        return self._built.get(_recipe_of(job))

    def build(self, job: JobSpec, requirements: Sequence[str], progress: Progress) -> ReadyImage:
        """Build, push or find the image that the job names, and have it in the engine; one at a time.

        Args:
            job: The job.
            requirements: Lines of a requirements file that the image has to satisfy.
            progress: Gets lines for the reader, empty ones while work goes on.

        Raises:
            CredentialsError: The registry does not let us.
            ImageError: The image cannot be made.
            TargetError: The engine does not answer.
        """
        while not self._building.acquire(timeout=0.2):
            progress("")
        try:
            image = self.built(job)
            if image is None:
                image = self._built[_recipe_of(job)] = self._build(job, requirements, progress)
            return image
        finally:
            self._building.release()

    def _build(self, job: JobSpec, requirements: Sequence[str], progress: Progress) -> ReadyImage:
        base = base_image(job.image, self._config.settings)
        name = with_tag(job.image.image_name, job.model_id, job.framework.value)
        parts = job.script_path, job.script.source, job.placed, job.requirements
        published = self._publisher.publish(recipe(name, base, *parts, own=OWN_PACKAGES), progress, keep_in_engine=True)
        in_engine = self._engine.image_labels(name).get(CHECKSUM) == published.checksum
        image = self._pulled(name if in_engine else published.pinned, progress)._replace(built=True)
        further = [line for line in requirements if line not in job.requirements]
        return self._completed(image, further, progress)

    def _pulled(self, name: str, progress: Progress) -> ReadyImage:
        image = self._local(name)
        if image is None:
            progress(f"Pulling image {name}.")
            self._engine.pull(name, progress)
            image = self._local(name)
            if image is None:
                raise WorkloadError(f"image {name} was pulled but is not in the engine", "run it again")
        return image

    def _completed(self, image: ReadyImage, requirements: Sequence[str], progress: Progress) -> ReadyImage:
        if not requirements:
            return image
        labels = {**MANAGED, "kaptain.owner": owner(self._config.home), "kaptain.kind": "look"}
        contents = self._inspector.in_engine(self._engine, image.name, image.id, labels)
        missing = contents.missing(requirements)
        if missing:
            progress(f"Installing requirements that the image lacks: {shown(missing)}")
            fetch = fetch_runtime_packages if set(missing) <= set(OWN_PACKAGES) else install
            folder = fetch(missing, contents.platform, self._config.cache, progress, contents.installed)
            volume = PackageVolume(folder, self._config.cache, self._config.home)
            volume.fill(self._engine, image.id)
            image = image._replace(volumes=volume.mounts)
        self._complete[(image.id, *requirements)] = image
        return image

    def _local(self, name: str) -> ReadyImage | None:
        image = self._engine.image(name)
        if image is None:
            return None
        config = image.attrs.get("Config") or {}
        env = dict(line.partition("=")[::2] for line in config.get("Env") or ())
        return ReadyImage(name, str(image.id), str(config.get("User") or ""), env.get("PYTHONPATH", ""))

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


def _recipe_of(job: JobSpec) -> tuple[object, ...]:
    return (
        job.image,
        job.script_path,
        job.script.source,
        tuple(job.placed.items()),
        job.requirements,
        job.upload_uri.partition(":")[0],
    )

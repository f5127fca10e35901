"""The docker target as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from kaptain_magics.core.specs import EndpointSpec, ImageSpec, JobSpec, StudySpec
from kaptain_magics.errors import TargetError
from kaptain_magics.files import Lock
from kaptain_magics.images.engine import ContainerGoneError, Engine
from kaptain_magics.targets.base import Check, TargetConfig, without_values
from kaptain_magics.targets.docker import container_settings
from kaptain_magics.targets.docker.docker_jobs import DockerJobs
from kaptain_magics.targets.docker.docker_serving import DockerServing
from kaptain_magics.targets.docker.ready_images import ImageProvider, ReadyImage
from kaptain_magics.targets.features import Feature


class DockerTarget(DockerJobs, DockerServing):
    """Runs jobs and serves models in containers.

    Args:
        config: State folder, cache, settings (``docker_host``, ``base_image``, ``docker_user``) and store.
    """

    name = "docker"
    features = frozenset({Feature.IMAGES, Feature.ADDRESS})

    def __init__(self, config: TargetConfig) -> None:
        engine = Engine(config.settings)
        images = ImageProvider(engine, config)
        DockerJobs.__init__(self, config, engine, images)
        DockerServing.__init__(self, config, engine, images)

    def check(self) -> list[Check]:
        """Look at the engine, its disk and the base image."""
        try:
            info = self._engine.info
        except TargetError as error:
            return [Check("engine", False, error.message, error.hint)]
        address = self._engine.address or "the default address"
        checks = [Check("engine", True, f"Docker {info.get('ServerVersion', '?')} at {address}")]
        checks.append(
            Check(
                "limits", True, f"{info.get('NCPU', '?')} CPUs, {int(info.get('MemTotal', 0)) / 1e9:.1f} GB of memory"
            )
        )
        name = container_settings.base_image(_NO_IMAGE, self._config.settings)
        in_engine = self._images.find_ready(_NO_IMAGE, ()) is not None
        checks.append(Check("base image", True, name if in_engine else f"{name} is pulled when it is first used"))
        return checks

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return the ``docker run`` that does the same, secrets masked."""
        if isinstance(spec, StudySpec):
            lines = [f"# searched: {name} = {domain}" for name, domain in spec.domains.items()]
            return "\n".join([*lines, self.render(spec.job)])
        if isinstance(spec, EndpointSpec):
            image = container_settings.base_image(spec.image, self._config.settings)
            return self._servers.render(spec, ReadyImage(image, image))
        image = spec.image.image_name or container_settings.base_image(spec.image, self._config.settings)
        hidden = container_settings.hidden_environment(without_values(spec).env, self._config.storage_env)
        return container_settings.as_command(image, self._settings(spec, ""), hidden)

    def clean(self, force: bool = False) -> list[str]:
        """Find containers of ended and killed runs, forgotten servers and packages; with ``force`` remove them."""
        ours: dict[str, Any] = {"label": [f"kaptain.owner={container_settings.owner(self._config.home)}"]}
        with self._engine.translate_errors():
            containers = self._engine.client.containers.list(all=True, filters=ours, ignore_removed=True)
            volumes = self._engine.client.volumes.list(filters={**ours, "dangling": True})
        lines = []
        for container in containers:
            if self._abandoned(container.labels):
                lines.append(f"container {container.name}")
                if force:
                    with contextlib.suppress(ContainerGoneError), self._engine.translate_errors():
                        container.remove(force=True, v=True)
        for volume in volumes:
            if self._abandoned(volume.attrs.get("Labels") or {}):
                lines.append(f"volume {volume.name}")
                if force:
                    with contextlib.suppress(TargetError), self._engine.translate_errors():  # one that is in use stays
                        volume.remove()
        return lines

    def _abandoned(self, labels: Mapping[str, str]) -> bool:
        """Whether the objects with these labels belong to no living run or endpoint."""
        kind, run = labels.get("kaptain.kind"), labels.get("kaptain.run", "")
        if kind in ("job", "look"):
            return not Lock(self._config.home / "runs" / run / "lock").held_by_other()
        if kind in ("server", "gate", "sockets"):
            return not self.knows(labels.get("kaptain.endpoint", ""), labels.get("kaptain.name", ""))
        return kind == "packages"


_NO_IMAGE = ImageSpec()

"""The docker target as a whole."""

from __future__ import annotations

from kaptain_magics.core.specs import EndpointSpec, ImageSpec, JobSpec, StudySpec
from kaptain_magics.errors import TargetError
from kaptain_magics.targets.base import Check
from kaptain_magics.targets.docker import container as settings_of
from kaptain_magics.targets.docker.jobs import DockerJobs


class DockerTarget(DockerJobs):
    """Runs jobs and serves models in containers.

    Args:
        surroundings: State folder, cache, settings and store.
    """

    def check(self) -> list[Check]:
        """Look at the engine, its disk and the base image."""
        try:
            info = self._engine.info
        except TargetError as error:
            return [Check("engine", False, error.message, error.hint)]
        where = self._engine.address or "the usual address"
        checks = [Check("engine", True, f"Docker {info.get('ServerVersion', '?')} at {where}")]
        checks.append(
            Check(
                "limits", True, f"{info.get('NCPU', '?')} CPUs, {int(info.get('MemTotal', 0)) / 1e9:.1f} GB of memory"
            )
        )
        name = settings_of.base_image(_NO_IMAGE, self._around.settings)
        there = self._images.at_hand(_NO_IMAGE, ()) is not None
        checks.append(Check("base image", True, name if there else f"{name} is pulled when it is first used"))
        return checks

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return the ``docker run`` that does the same, secrets masked."""
        if isinstance(spec, StudySpec):
            lines = [f"# searched: {name} = {domain}" for name, domain in spec.domains.items()]
            return "\n".join([*lines, self.render(spec.job)])
        assert isinstance(spec, JobSpec)
        image = spec.image.image_name or settings_of.base_image(spec.image, self._around.settings)
        return settings_of.as_command(image, self._settings(spec, ""))


_NO_IMAGE = ImageSpec()

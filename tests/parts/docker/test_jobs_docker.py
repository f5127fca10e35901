"""The docker target passes the suite of all targets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.testing.job_rig import Rig
from kaptain_magics.testing.job_target import JobTargetSuite

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def rig(docker_host: str, docker_base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    import docker

    from kaptain_magics.targets.docker.container_settings import owner

    folder = tmp_path_factory.mktemp("docker")
    client = docker.DockerClient(base_url=docker_host)
    mine = {"label": f"kaptain.owner={owner(folder)}"}
    yield Rig(
        name="docker",
        config=TargetConfig(home=folder, cache=folder / "cache", settings={"docker_host": docker_host}),
        folder=folder / "runs",
        uploads=Path(folder / "storage").as_uri(),
        image=ImageSpec(base_image=docker_base_image),
        leftovers=lambda: [str(found.name) for found in client.containers.list(all=True, filters=mine)],
    )
    for found in client.containers.list(all=True, filters=mine):
        found.remove(force=True)
    client.close()


class TestDockerJobs(JobTargetSuite):
    """Containers of a real engine."""

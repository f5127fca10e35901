"""The docker target passes the suite of all serving targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.docker import DockerTarget
from kaptain_magics.testing.serving_rig import ServingRig
from kaptain_magics.testing.serving_target import ServingTargetSuite

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def serving_rig(
    docker_host: str, docker_base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServingRig]:
    import docker

    from kaptain_magics.targets.docker.container_settings import owner

    folder = tmp_path_factory.mktemp("serving-docker")
    config = TargetConfig(home=folder / "home", cache=folder / "cache", settings={"docker_host": docker_host})
    yield ServingRig(
        open=lambda: DockerTarget(config), folder=folder, image=ImageSpec(base_image=docker_base_image), timeout=200.0
    )
    client = docker.DockerClient(base_url=docker_host)
    mine: dict[str, Any] = {"label": f"kaptain.owner={owner(folder / 'home')}"}
    for found in client.containers.list(all=True, filters=mine):
        found.remove(force=True)
    for volume in client.volumes.list(filters=mine):
        volume.remove(force=True)
    client.close()


class TestDockerServing(ServingTargetSuite):
    """Containers of a real engine."""

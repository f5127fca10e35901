"""Real parts for images and containers: a base image in the engine, and a registry with a password."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

BASE_IMAGE = "kaptain-test/sklearn:3.11"
_CLUSTER = Path.home() / ".cache/kaptain-cluster/run"


class LockedRegistry(NamedTuple):
    """A registry that asks for a password.

    Attributes:
        address: ``host:port``.
        config: Folder with the ``config.json`` that lets one in.
        password: The password, to look for where it must not be.
    """

    address: str
    config: Path
    password: str


@pytest.fixture(scope="session")
def docker_base_image(docker_host: str) -> str:
    """Name of an image with Python and scikit-learn that the engine has."""
    import docker

    from tests.conftest import absent

    client = docker.DockerClient(base_url=docker_host)
    try:
        client.images.get(BASE_IMAGE)
    except docker.errors.ImageNotFound:
        absent("docker", f"the engine has no image {BASE_IMAGE}")
    finally:
        client.close()
    return BASE_IMAGE


@pytest.fixture(scope="session")
def registry() -> LockedRegistry:
    """The cluster's registry at 127.0.0.1:5000."""
    import urllib3

    from tests.conftest import absent

    written = _CLUSTER / "registry/password"
    try:
        urllib3.request("GET", "http://127.0.0.1:5000/v2/", timeout=5.0, retries=False)
        return LockedRegistry("127.0.0.1:5000", _CLUSTER / "docker-config", written.read_text().strip())
    except (OSError, urllib3.exceptions.HTTPError) as error:
        absent("cluster", f"no registry at 127.0.0.1:5000: {error}")
        raise AssertionError from error

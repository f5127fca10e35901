"""A real cluster for tests: a namespace of the test's own, and an S3 server that pods can reach."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.names import new_hex
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.kubernetes.api.client import Cluster
from tests.seaweed import SeaweedFS, require_seaweed

BUCKET = "kaptain"


@pytest.fixture(scope="session")
def cluster_image(docker_base_image: str) -> str:
    """An image with Python and scikit-learn; all else that jobs and servers need travels with them."""
    return docker_base_image


@pytest.fixture(scope="session")
def bridge(docker_host: str) -> str:
    """This machine's address as pods see it."""
    import docker

    client = docker.DockerClient(base_url=docker_host, timeout=30)
    try:
        config = client.networks.get("bridge").attrs["IPAM"]["Config"][0]
    finally:
        client.close()
    return str(config["Gateway"])


@pytest.fixture(scope="session")
def pod_storage(bridge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """An S3 server that answers pods and this machine."""
    require_seaweed()
    with SeaweedFS(tmp_path_factory.mktemp("pod-storage"), host=bridge) as server:
        make_bucket(server)
        yield server


def make_bucket(server: SeaweedFS) -> None:
    """Make the bucket that the tests store to."""
    from minio import Minio

    env = server.env
    client = Minio(
        server.endpoint.removeprefix("http://"),
        env["AWS_ACCESS_KEY_ID"],
        env["AWS_SECRET_ACCESS_KEY"],
        secure=False,
        region=env["AWS_REGION"],
    )
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)


@pytest.fixture(scope="module")
def namespace(kubeconfig: Path) -> Iterator[Cluster]:
    """A namespace of the module's own, deleted after it."""
    with fresh_namespace(kubeconfig) as cluster:
        yield cluster


class fresh_namespace:  # noqa: N801 - used like a function
    """A new namespace for a block."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def __enter__(self) -> Cluster:
        name = f"kaptain-test-{new_hex(8)}"
        self._admin = Cluster.connect({"kubeconfig": str(self._kubeconfig), "namespace": name})
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"kaptain-test": "yes"}}}
        self._admin.create(made)
        eventually(lambda: self._admin.get("ServiceAccount", "default"))
        return self._admin

    def __exit__(self, *_: object) -> None:
        self._admin.delete("Namespace", self._admin.namespace)


def eventually(what: Callable[[], Any], patience: float = 60.0) -> Any:
    """Ask until the answer is true, and return it."""
    until = time.monotonic() + patience
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.1)


def target_config(
    kubeconfig: Path, cluster: Cluster, home: Path, image: str, storage: SeaweedFS | None = None, **settings: str
) -> TargetConfig:
    """What a target of the test is configured with."""
    home.mkdir(exist_ok=True)
    return TargetConfig(
        home=home,
        cache=home / "cache",
        settings={
            "kubeconfig": str(kubeconfig),
            "namespace": cluster.namespace,
            "base_image": image,
            **settings,
        },
        storage_env=storage.env if storage is not None else {},
    )


def environment(kubeconfig: Path, cluster: Cluster, image: str, storage: SeaweedFS, prefix: str) -> dict[str, str]:
    """The environment of a kernel that works on the cluster and keeps its models under a prefix of its own."""
    return {
        "KAPTAIN_TARGET": "kubernetes",
        "KAPTAIN_KUBECONFIG": str(kubeconfig),
        "KAPTAIN_NAMESPACE": cluster.namespace,
        "KAPTAIN_BASE_IMAGE": image,
        "KAPTAIN_STORAGE_URI": f"s3://{BUCKET}/{prefix}",
        **storage.env,
    }


@pytest.fixture
def kernel_namespace(
    home: Path,  # a state folder of the test's own
    tmp_path: Path,
    kubeconfig: Path,
    cluster_image: str,
    pod_storage: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """A namespace of the test's own, in which the magics work without further settings."""
    with fresh_namespace(kubeconfig) as made:
        for name, value in environment(kubeconfig, made, cluster_image, pod_storage, tmp_path.name).items():
            monkeypatch.setenv(name, value)
        yield made


def kubectl(kubeconfig: Path, *arguments: str, stdin: str = "") -> str:
    """Run kubectl and return what it says."""
    done = subprocess.run(
        ["kubectl", "--kubeconfig", str(kubeconfig), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ours(cluster: Cluster) -> list[str]:
    """Names of everything in a namespace that was made by Kaptain and stays, as ``kind/name``."""
    from kaptain_magics.targets.kubernetes.manifests.labels import EVERYTHING

    kinds = ("Job", "Pod", "Secret", "ConfigMap", "Service", "ServiceAccount", "Deployment", "HorizontalPodAutoscaler")
    found = [(kind, thing["metadata"]) for kind in kinds for thing in cluster.list(kind, EVERYTHING)]
    return [f"{kind}/{about['name']}" for kind, about in found if "deletionTimestamp" not in about]

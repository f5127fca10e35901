"""The Kubernetes target passes the suite of all serving targets on a cluster without KServe."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.core.names import new_hex
from kaptain_magics.storage import open_store
from kaptain_magics.targets.base import open_target
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.testing.serving_rig import ServingRig
from kaptain_magics.testing.serving_target import ServingTargetSuite
from tests.parts.cluster.rig import BUCKET, target_config
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]


@pytest.fixture(scope="module")
def serving_rig(
    kubeconfig: Path,
    namespace: Cluster,
    cluster_image: str,
    pod_storage: SeaweedFS,
    tmp_path_factory: pytest.TempPathFactory,
) -> ServingRig:
    folder = tmp_path_factory.mktemp("serving-kubernetes")
    config = target_config(kubeconfig, namespace, folder / "home", cluster_image, pod_storage, cluster_serving="plain")

    def publish(artifact: Path) -> str:
        uri = f"s3://{BUCKET}/served/{new_hex(32)}"
        open_store(uri, pod_storage.env).put(artifact, uri)
        return uri

    return ServingRig(
        open=lambda: open_target("kubernetes", config),  # type: ignore[arg-type,return-value]
        folder=folder,
        publish=publish,
        points=4,
        lasting=False,
    )


class TestKubernetesServing(ServingTargetSuite):
    """Deployments of a cluster."""

"""The Kubernetes target passes the suite of all targets on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.testing.job_rig import Rig
from kaptain_magics.testing.job_target import JobTargetSuite
from tests.parts.cluster.rig import BUCKET, ours, target_config
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]


@pytest.fixture(scope="module")
def rig(
    kubeconfig: Path,
    namespace: Cluster,
    cluster_image: str,
    pod_storage: SeaweedFS,
    tmp_path_factory: pytest.TempPathFactory,
) -> Rig:
    folder = tmp_path_factory.mktemp("kubernetes")
    (folder / "runs").mkdir()
    return Rig(
        name="kubernetes",
        config=target_config(kubeconfig, namespace, folder, cluster_image, pod_storage),
        folder=folder / "runs",
        uploads=f"s3://{BUCKET}/models",
        leftovers=lambda: [name for name in ours(namespace) if name.startswith(("Secret/", "Service/"))],
    )


class TestKubernetesJobs(JobTargetSuite):
    """Jobs of a cluster."""

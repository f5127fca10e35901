"""Jobs of several workers: PyTorchJob, TFJob and TrainJob, their operators played by a stand-in with real pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_job_name, new_run_id
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.jobs.job_record import JobRecord
from tests.parts.cluster.jobs import last, log, run
from tests.parts.cluster.rig import kubectl, target_config
from tests.parts.cluster.standins import TrainingStandIn, definitions

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def operators(namespace: Cluster) -> Iterator[None]:
    with definitions(namespace, "training.yaml"):
        yield


@pytest.fixture
def target(kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path) -> KubernetesTarget:
    return KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image))


def job(source: str, **changes: Any) -> JobSpec:
    given: dict[str, Any] = {
        "name": new_job_name("Several", "job"),
        "run_id": new_run_id(),
        "model_id": "dev/several",
        "script": Script(name="training.py", source=source),
        "framework": ModelFramework.PYTORCH,
        "workers": 2,
    }
    return JobSpec(**{**given, **changes})


@pytest.mark.parametrize(
    ("framework", "kind"),
    [(ModelFramework.PYTORCH, "PyTorchJob"), (ModelFramework.TENSORFLOW, "TFJob"), (ModelFramework.PYTHON, "TrainJob")],
)
def test_several_workers(
    target: KubernetesTarget, namespace: Cluster, kubeconfig: Path, framework: ModelFramework, kind: str
) -> None:
    source = "import os\nprint('worker', os.environ.get('RANK'), 'of', os.environ.get('WORLD_SIZE'))\n"
    spec = job(source, framework=framework)
    said = kubectl(kubeconfig, "create", "--dry-run=server", "-f", "-", stdin=target.render(spec))
    assert f"{kind.lower()}." in said
    with TrainingStandIn(namespace):
        ref = target.submit(spec)
        assert JobRecord.of_ref(ref).kind == kind
        events = list(target.follow(ref))
        assert last(events).state is RunState.SUCCEEDED, events
        assert log(events) == "worker 0 of 2\n"
        failing = job("raise ValueError('one worker')", framework=framework)
        end = last(run(target, failing))
        assert (end.state, "one worker" in end.reason) == (RunState.FAILED, True), end
        running = target.submit(job("import time\ntime.sleep(600)", framework=framework))
        target.stop(running)
        assert last(list(target.follow(running))).state is RunState.STOPPED


def test_another_worker_fails_first(target: KubernetesTarget, namespace: Cluster) -> None:
    source = "import os, time\nif os.environ['RANK'] == '0':\n    time.sleep(600)\nraise ValueError('second worker')\n"
    with TrainingStandIn(namespace):
        end = last(run(target, job(source)))
    assert (end.state, end.exit_code) == (RunState.FAILED, 1)
    assert "worker-0: " in end.reason
    assert "second worker" in end.reason


def test_a_train_job_ends_after_its_timeout(target: KubernetesTarget, namespace: Cluster) -> None:
    source = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
    spec = job(source, framework=ModelFramework.PYTHON, timeout=8.0)
    with TrainingStandIn(namespace):  # a Trainer that has no deadlines
        events = run(target, spec)
    assert (last(events).state, last(events).reason) == (RunState.FAILED, "timed out after 8 s")
    assert log(events) == "begun\n"
    assert namespace.get("TrainJob", spec.name) is None


def test_nobody_makes_the_pods(kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path) -> None:
    config = target_config(kubeconfig, namespace, tmp_path / "home", cluster_image, pending_timeout="1")
    end = last(run(KubernetesTarget(config), job("print(1)")))
    assert (end.state, "no pod was created" in end.reason) == (RunState.FAILED, True)

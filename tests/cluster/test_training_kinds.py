"""Jobs of several workers: PyTorchJob, TFJob and TrainJob, their operators played by a stand-in with real pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.events import Event, LogWritten, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_job_name, new_run_id
from kaptain_magics.core.specs import JobSpec, Script
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.client import Cluster
from tests.cluster.rig import kubectl, surroundings
from tests.cluster.standins import TrainingStandIn, install, uninstall

pytestmark = pytest.mark.cluster
CRDS = Path(__file__).parent / "crds"


@pytest.fixture(scope="module", autouse=True)
def operators(namespace: Cluster) -> Iterator[None]:
    made = install(namespace, CRDS / "training.yaml")
    yield
    uninstall(namespace, made)


@pytest.fixture
def target(kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path) -> KubernetesTarget:
    return KubernetesTarget(surroundings(kubeconfig, namespace, tmp_path / "home", cluster_image))


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


def run(target: KubernetesTarget, spec: JobSpec) -> list[Event]:
    return list(target.follow(target.submit(spec)))


def last(events: list[Event]) -> StateChanged:
    assert isinstance(events[-1], StateChanged)
    return events[-1]


def log(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, LogWritten))


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
        assert ref.data["kind"] == kind
        events = list(target.follow(ref))
        assert last(events).state is RunState.SUCCEEDED, events
        assert log(events) == "worker 0 of 2\n"
        failing = job("raise ValueError('one worker')", framework=framework)
        end = last(run(target, failing))
        assert (end.state, "one worker" in end.reason) == (RunState.FAILED, True)
        running = target.submit(job("import time\ntime.sleep(600)", framework=framework))
        target.stop(running)
        assert last(list(target.follow(running))).state is RunState.STOPPED


def test_nobody_makes_the_pods(kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path) -> None:
    around = surroundings(kubeconfig, namespace, tmp_path / "home", cluster_image, pending_timeout="1")
    end = last(run(KubernetesTarget(around), job("print(1)")))
    assert (end.state, "made no pod" in end.reason) == (RunState.FAILED, True)

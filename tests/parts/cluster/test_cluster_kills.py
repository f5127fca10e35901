"""The kernel is killed at every step of train, tune and deploy on a real cluster, alone and with its supervisor.

Alone, the work goes on to its end. With the supervisor, the run has failed. Either way ``clean --force`` leaves the
namespace as it was before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.model import Workspace
from kaptain_magics.state import RunFolder
from kaptain_magics.targets.kubernetes.api.client import Cluster
from tests.parts.cluster.rig import environment, eventually, fresh_namespace
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]
KERNEL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "kaptain_magics")
shell.run_cell(sys.argv[1])
"""
SCRIPT = """
from sklearn.dummy import DummyClassifier
c = 0.5
score = c
clf = DummyClassifier().fit([[0], [1]], [0, 1])
"""
CELLS = {
    RunKind.TRAIN: f"%%kaptain_train dev/kill --model clf --metric accuracy=score{SCRIPT}",
    RunKind.TUNE: "%kaptain_tune dev/kill c=Double(0,1) --trials 4 --parallel 2 --objective accuracy --file train.py",
    RunKind.DEPLOY: "%kaptain_deploy dev/kill",
}
STEPS = {RunKind.TRAIN: range(12), RunKind.TUNE: range(0, 24, 2), RunKind.DEPLOY: range(12)}
KINDS = (
    "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Job", "Pod", "Secret", "Service", "ServiceAccount",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    with fresh_namespace(kubeconfig) as made:
        yield made


@pytest.fixture
def workspace(
    home: Path,
    tmp_path: Path,
    kubeconfig: Path,
    cluster: Cluster,
    cluster_image: str,
    pod_storage: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
) -> Workspace:
    for name, value in environment(kubeconfig, cluster, cluster_image, pod_storage, tmp_path.name).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Workspace()


def everything(cluster: Cluster) -> set[str]:
    """All that is in the namespace and stays, as ``kind/name``."""
    found = [(kind, thing["metadata"]) for kind in KINDS for thing in cluster.list(kind)]
    return {f"{kind}/{about['name']}" for kind, about in found if "deletionTimestamp" not in about}


def killed(workspace: Workspace, kind: RunKind, step: int, supervisor_too: bool) -> RunFolder:
    """Run a cell in a kernel of its own and kill that when the run has written so many events, or has ended."""
    known = {summary.record.run_id for summary in workspace.runs()}
    with subprocess.Popen([sys.executable, "-c", KERNEL, CELLS[kind]], stdout=subprocess.DEVNULL) as kernel:
        (run,) = eventually(lambda: [s.record.run_id for s in workspace.runs() if s.record.run_id not in known])
        folder = workspace.folder(run)
        eventually(lambda: len(list(folder.events())) >= step or folder.last_state().state.terminal)
        if supervisor_too:
            pid = int(eventually(lambda: _text(folder.path / "supervisor.pid")))
        kernel.kill()
        if supervisor_too:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return folder


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def end_of(folder: RunFolder) -> RunState:
    eventually(lambda: folder.last_state().state.terminal, 120)
    return folder.last_state().state


def put_away(workspace: Workspace, cluster: Cluster, before: set[str]) -> None:
    for endpoint in workspace.endpoints():
        workspace.endpoint(endpoint.name).undeploy()
    workspace.clean(force=True)
    with contextlib.suppress(AssertionError):
        eventually(lambda: everything(cluster) == before)
    assert everything(cluster) == before
    assert not [line for line in workspace.clean() if "/" in line.split()[0]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", CELLS)
def test_kernel_and_supervisor_are_killed_at_every_step(workspace: Workspace, cluster: Cluster, kind: RunKind) -> None:
    Path("train.py").write_text(SCRIPT + "print(f'accuracy={score}')\n")
    if kind is RunKind.DEPLOY:
        first = killed(workspace, RunKind.TRAIN, 1000, supervisor_too=False)
        assert first.last_state().state is RunState.SUCCEEDED
        workspace.clean(force=True)
    before = eventually(lambda: (found := everything(cluster)) and not any("Pod/" in name for name in found) and found)
    states = []
    for step in STEPS[kind]:
        folder = killed(workspace, kind, step, supervisor_too=True)
        states.append(end_of(folder))
        put_away(workspace, cluster, before)
        if states[-1] is RunState.SUCCEEDED:
            break
    assert states.count(RunState.FAILED) >= 4, states


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", CELLS)
def test_the_work_of_a_killed_kernel_goes_on(workspace: Workspace, cluster: Cluster, kind: RunKind) -> None:
    Path("train.py").write_text(SCRIPT + "print(f'accuracy={score}')\n")
    before = everything(cluster)
    if kind is RunKind.DEPLOY:
        killed(workspace, RunKind.TRAIN, 1000, supervisor_too=False)
    folder = killed(workspace, kind, 2, supervisor_too=False)
    assert end_of(folder) is RunState.SUCCEEDED, folder.last_state()
    put_away(workspace, cluster, before)

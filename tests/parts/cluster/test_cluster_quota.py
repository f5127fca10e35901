"""A quota is used up in the middle of a study: it waits where waiting helps, else it ends and can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.errors import KaptainError
from kaptain_magics.model import Workspace
from kaptain_magics.model.study import Study
from kaptain_magics.targets.kubernetes.api.client import Cluster
from tests.parts.cluster.rig import eventually
from tests.shell import Notebook

pytestmark = [pytest.mark.cluster, pytest.mark.s3]
SCRIPT = "import time\nc = 0.5\ntime.sleep(1)\nprint(f'accuracy={c}', flush=True)\n"
TUNE = (
    "%kaptain_tune dev/quota c=Double(0,1) --trials 12 --parallel 2 --failed-trials 3 --algorithm random --seed 1 "
    "--objective accuracy --file train.py --cpu 0.4 --memory 200M"
)


def set_quota(cluster: Cluster, cpu: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"requests.cpu": cpu}},
    }
    cluster.create(quota)
    eventually(lambda: cluster.list("ResourceQuota")[0].get("status", {}).get("hard"))


def begun(notebook: Notebook) -> Study:
    Path("train.py").write_text(SCRIPT)
    notebook.run(f"{TUNE} --detach")
    study = notebook.variables["_kaptain"]
    eventually(lambda: any(trial.state is TrialState.SUCCEEDED for trial in study.trials))
    assert isinstance(study, Study)
    return study


def test_a_study_waits_for_room(notebook: Notebook, kernel_namespace: Cluster) -> None:
    study = begun(notebook)
    set_quota(kernel_namespace, "0.5")  # one trial at a time
    assert study.wait(200) is RunState.SUCCEEDED, study.reason
    assert [trial.state for trial in study.trials] == [TrialState.SUCCEEDED] * 12


def test_a_study_without_room_ends_and_goes_on_later(notebook: Notebook, kernel_namespace: Cluster) -> None:
    study = begun(notebook)
    set_quota(kernel_namespace, "0.1")  # no trial any more
    assert study.wait(200) is RunState.FAILED
    assert "quota small exceeded" in study.reason, study.reason
    kept = {trial.number: trial.parameters for trial in study.trials if trial.state is TrialState.SUCCEEDED}
    assert kept
    with pytest.raises(KaptainError, match="quota small"):
        study.raise_for_failure()
    kernel_namespace.delete("ResourceQuota", "small")
    eventually(lambda: not kernel_namespace.list("ResourceQuota"))
    again = Workspace().resume(study.run_id)
    assert again.wait(200) is RunState.SUCCEEDED, again.reason
    finished = {trial.number: trial.parameters for trial in again.trials if trial.state is TrialState.SUCCEEDED}
    assert kept.items() <= finished.items()
    assert len(finished) > len(kept)
    assert len([trial for trial in again.trials if trial.state is not TrialState.KILLED]) == 12
    Workspace().clean(force=True)
    assert not kernel_namespace.list("Job", "app.kubernetes.io/managed-by=kaptain")

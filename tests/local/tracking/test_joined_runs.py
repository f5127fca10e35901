"""MLflow while a run goes on: metrics live, figures and the model at the end, scripts that use MLflow themselves."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.domains import Integer
from kaptain_magics.core.events import Noted
from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.states import RunState
from kaptain_magics.model import Run, Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture
from tests.waiting import until

LIVE = """
import os, time
import kaptain
import matplotlib.pyplot as plt
from sklearn.dummy import DummyClassifier
plt.plot([1, 2])
plt.show()
for step in range(3):
    kaptain.log_metrics(loss=1 / (step + 1), step=step)
while not os.path.exists(os.environ["GO_ON"]):
    time.sleep(0.05)
clf = DummyClassifier().fit([[0], [1]], [0, 1])
"""

JOINED = """
import mlflow
c = 1
with mlflow.start_run():
    mlflow.log_param("mine", 3)
    mlflow.log_metric("own", 5 * c)
with mlflow.start_run(run_name="again"):  # as a second call of fit does with autolog
    mlflow.log_metric("other", 7)
    with mlflow.start_run(nested=True, run_name="nested"):
        mlflow.log_metric("inner", 1)
print(f"accuracy={1 - c * c}")
"""


@pytest.fixture
def uri(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    before = dict(os.environ)
    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("KAPTAIN_TRACKING_URI", place)
    yield place
    for name in set(os.environ) - set(before):
        del os.environ[name]


def runs_in(uri: str, experiment: str) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        known = client.get_experiment_by_name(experiment)
        return [] if known is None else list(client.search_runs([known.experiment_id]))


def history(uri: str, run: Any, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return sorted((m.step, m.value) for m in MlflowClient(uri).get_metric_history(run.info.run_id, metric))


def artifacts(uri: str, run: Any, path: str | None = None) -> set[str]:
    from mlflow import MlflowClient

    return {file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id, path)}


def warnings_of(run: Run) -> list[str]:
    return [event.text for event in run.follow() if isinstance(event, Noted) and event.warning]


def test_metrics_are_there_while_the_run_goes_on(uri: str, tmp_path: Path) -> None:
    gate = tmp_path / "go-on"
    request = TrainingRequest(script=capture(LIVE), env={"GO_ON": str(gate)}, capture=Capture(model="clf"))
    run = Workspace().model("dev/live").plan_training(request).start()
    try:
        until(lambda: (tmp_path / "mlflow.db").exists(), 120)
        until(lambda: any(found.data.metrics for found in runs_in(uri, "dev/live")), 60)
        (found,) = runs_in(uri, "dev/live")
        assert history(uri, found, "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
        assert found.info.status == "RUNNING"
        assert not run.state.terminal
    finally:
        gate.touch()
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    (found,) = runs_in(uri, "dev/live")
    assert found.info.status == "FINISHED"
    assert artifacts(uri, found) == {"figures", "model"}
    assert artifacts(uri, found, "figures") == {"figures/1.png"}
    assert "model/model.joblib" in artifacts(uri, found, "model")
    assert warnings_of(run) == []


def test_a_script_that_uses_mlflow_logs_into_its_run(uri: str) -> None:
    run = Workspace().model("dev/joined").plan_training(
        TrainingRequest(script=capture(JOINED), parameters={"c": 2})
    ).start()  # fmt: skip
    assert run.wait(120) is RunState.SUCCEEDED, run.log()
    found = {entry.info.run_name: entry for entry in runs_in(uri, "dev/joined")}
    assert set(found) == {"again", "nested"}
    joined = found["again"]
    assert joined.data.tags["kaptain.run_id"] == run.run_id
    assert joined.data.params == {"mine": "3", "c": "2"}
    assert {name: joined.data.metrics[name] for name in ("own", "other", "accuracy")} == {
        "own": 10.0, "other": 7.0, "accuracy": -3.0
    }  # fmt: skip
    assert joined.info.status == "FINISHED"
    assert found["nested"].data.tags["mlflow.parentRunId"] == joined.info.run_id
    assert warnings_of(run) == []


def test_trials_that_use_mlflow_log_into_their_own(uri: str) -> None:
    source = "import mlflow\nc = 1\nwith mlflow.start_run():\n    mlflow.log_metric('own', c)\nprint(f'loss={c}')"
    job = TrainingRequest(script=capture(source))
    request = TuningRequest(job=job, domains={"c": Integer(1, 2)}, objectives=["loss"], algorithm="grid")
    study = Workspace().model("dev/trials").plan_tuning(request).start()
    assert study.wait(120) is RunState.SUCCEEDED, study.reason
    found = runs_in(uri, "dev/trials")
    assert len(found) == 3
    (parent,) = (entry for entry in found if "mlflow.parentRunId" not in entry.data.tags)
    trials = [entry for entry in found if entry is not parent]
    assert {entry.data.tags["mlflow.parentRunId"] for entry in trials} == {parent.info.run_id}
    assert sorted((entry.data.params["c"], entry.data.metrics["own"]) for entry in trials) == [("1", 1.0), ("2", 2.0)]
    assert {entry.info.run_name for entry in trials} == {trial.name for trial in study.trials}
    assert warnings_of(study) == []


def test_a_script_with_an_experiment_of_its_own_keeps_its_runs_there(uri: str) -> None:
    source = "import mlflow\nmlflow.set_experiment('mine')\nwith mlflow.start_run():\n    mlflow.log_metric('own', 1)"
    run = Workspace().model("dev/apart").plan_training(TrainingRequest(script=capture(source))).start()
    assert run.wait(120) is RunState.SUCCEEDED, run.log()
    assert [entry.data.metrics for entry in runs_in(uri, "mine")] == [{"own": 1.0}]
    (ours,) = runs_in(uri, "dev/apart")
    assert ours.data.metrics == {}

"""Runs and studies as a real MLflow keeps them, in SQLite and in files."""

from __future__ import annotations

import base64
import importlib.util
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.config import Settings
from kaptain_magics.core.domains import Integer
from kaptain_magics.core.events import (
    AnyEvent,
    ArtifactSaved,
    LogWritten,
    MetricReported,
    MetricSummary,
    Noted,
    StateChanged,
    TrialChanged,
)
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import JobSpec, StudySpec
from kaptain_magics.core.states import RunKind, RunState, TrialState
from kaptain_magics.errors import ConfigError
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture
from kaptain_magics.state import RunRecord
from kaptain_magics.tracking.mlflow_runs import missing, track
from tests.waiting import until

START = 1_700_000_000.0


@pytest.fixture(params=["sqlite", "files"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    before = dict(os.environ)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    yield f"sqlite:///{tmp_path / 'mlflow.db'}" if request.param == "sqlite" else (tmp_path / "mlruns").as_uri()
    for name in set(os.environ) - set(before):  # what ``track`` set for MLflow
        del os.environ[name]


def record(kind: RunKind = RunKind.TRAIN, **changes: Any) -> RunRecord:
    script = Script(name="training.py", source="")
    job = JobSpec(
        name="mnist-job-1",
        run_id="r1",
        model_id="dev/mnist",
        script=script,
        framework=ModelFramework.SKLEARN,
        parameters={"--gamma": 0.001, "--C(x)": "1.0", "epochs": 3},
    )
    study = StudySpec(
        name="mnist-tune-1", run_id="r1", model_id="dev/mnist", job=job, domains={}, objectives=("accuracy",)
    )
    known = {
        "run_id": "r1",
        "kind": kind,
        "name": "mnist-job-1" if kind is RunKind.TRAIN else "mnist-tune-1",
        "model_id": "dev/mnist",
        "target": "local",
        "created": START,
        "job": job if kind is RunKind.TRAIN else None,
        "study": study if kind is RunKind.TUNE else None,
    }
    return RunRecord(**{**known, **changes})


def trial(
    number: int, state: TrialState = TrialState.SUCCEEDED, value: float | None = None, **more: Any
) -> TrialChanged:
    metrics = {} if value is None else {"accuracy": MetricSummary(value - 0.5, value, value)}
    return TrialChanged(
        number=number,
        name=f"mnist-tune-1-{number}",
        state=state,
        parameters={"--gamma": number / 10, "c": "1"},
        metrics=metrics,
        started=START + number,
        ended=START + number + 1,
        **more,
    )


def runs_of(uri: str, experiment: str = "dev/mnist") -> tuple[Any, list[Any], Any]:
    """Return the one parent, its children by trial, and the client."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # where another process did the tracking
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
        parents = [r for r in found if "mlflow.parentRunId" not in r.data.tags]
        assert len(parents) == 1
        children = [r for r in found if r.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
        assert len(children) == len(found) - 1
        return parents[0], sorted(children, key=lambda r: int(r.data.tags["kaptain.trial"])), client


def test_a_training_run_with_its_curve_and_its_model(uri: str) -> None:
    about = {"name": "MNIST", "description": "digits", "version": "0.0.1"}
    curve = [MetricReported(name="loss", value=1.0 / (n + 1), step=10 * n, time=START + n) for n in range(700)]
    events: list[AnyEvent | None] = [
        StateChanged(state=RunState.RUNNING),
        None,
        LogWritten(start=0, end=9),
        *curve,
        MetricReported(name="val acc@1", value=0.5),
        MetricReported(name="val acc@1", value=0.75),
        ArtifactSaved(uri="s3://kaptain/models/dev/mnist/trained/abc"),
        StateChanged(state=RunState.SUCCEEDED, time=START + 60),
    ]
    assert track(record(model_info=about), events, uri) is None
    run, children, client = runs_of(uri)
    assert children == []
    assert run.info.run_name == "MNIST"
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (START * 1000, (START + 60) * 1000)
    assert run.data.params == {"gamma": "0.001", "C_x_": "1.0", "epochs": "3"}
    assert run.data.metrics == {"loss": 1 / 700, "val acc_1": 0.75}
    tags = run.data.tags
    assert tags["mlflow.note.content"] == "digits"
    assert tags["version"] == "0.0.1"
    assert tags["kaptain.model_uri"] == "s3://kaptain/models/dev/mnist/trained/abc"
    assert tags["mlflow.source.name"] == "training.py"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted(m.step for m in history) == list(range(0, 7000, 10))
    assert [m.step for m in client.get_metric_history(run.info.run_id, "val acc_1")] == [0, 1]


def test_a_study_with_its_trials_nested(uri: str) -> None:
    best = trial(2, value=0.9, artifact_uri="s3://k/trials/2", best=True)
    events = [
        trial(0, TrialState.RUNNING),
        trial(0, value=0.5, best=True),
        trial(1, TrialState.FAILED, reason="the script raised ValueError: no"),
        best,
        trial(3, TrialState.EARLY_STOPPED, value=0.1, reason="stopped early at step 4"),
        trial(4, TrialState.KILLED, reason="the goal was reached"),
        ArtifactSaved(uri="s3://k/tuned/abc"),
        trial(2, value=0.9, artifact_uri="s3://k/tuned/abc", best=True),  # reported again: the model has moved
        StateChanged(state=RunState.SUCCEEDED, reason="all trials are done: 5", time=START + 60),
    ]
    assert track(record(RunKind.TUNE), events, uri) is None
    parent, children, client = runs_of(uri)
    assert parent.info.run_name == "mnist-tune-1"
    assert parent.data.params == {"gamma": "0.2", "c": "1"}
    assert parent.data.metrics == {"accuracy": 0.9}
    assert [m.step for m in client.get_metric_history(parent.info.run_id, "accuracy")] == [0, 2]
    assert parent.data.tags["kaptain.model_uri"] == "s3://k/tuned/abc"
    assert parent.data.tags["kaptain.objective.accuracy"] == "maximize"
    assert parent.data.tags["kaptain.reason"] == "all trials are done: 5"
    assert [c.info.status for c in children] == ["FINISHED", "FAILED", "FINISHED", "FINISHED", "KILLED"]
    assert [c.info.run_name for c in children] == [f"mnist-tune-1-{n}" for n in range(5)]
    assert children[2].data.metrics == {"accuracy": 0.9, "accuracy.min": 0.4, "accuracy.max": 0.9}
    assert children[2].data.params == {"gamma": "0.2", "c": "1"}
    assert children[2].data.tags["kaptain.model_uri"] == "s3://k/tuned/abc"
    assert children[2].info.start_time == (START + 2) * 1000
    assert children[1].data.tags["kaptain.reason"] == "the script raised ValueError: no"
    assert children[3].data.tags["kaptain.state"] == "early-stopped"


def test_a_failed_run_and_a_second_one_share_an_experiment(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert track(record(), [StateChanged(state=RunState.FAILED, reason="out of memory")], uri) is None
    run, _, client = runs_of(uri, "mine")
    assert (run.info.status, run.data.tags["kaptain.reason"]) == ("FAILED", "out of memory")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.delete_experiment(run.info.experiment_id)
    assert track(record(), [], uri) is None  # restored rather than refused
    assert client.get_experiment(run.info.experiment_id).lifecycle_stage == "active"


def test_without_mlflow_there_is_one_clear_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing() is None
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a))
    warning = track(record(), [], "sqlite:///never.db")
    assert isinstance(warning, Noted)
    assert warning == missing()
    assert warning.warning
    assert "pip install" in warning.hint
    assert not Path("never.db").exists()


def test_a_tracker_that_cannot_be_used_is_one_warning_without_its_password(uri: str) -> None:
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    warning = track(record(), [], "http://me:hunter2@127.0.0.1:9/x")
    assert warning is not None
    assert warning.text.startswith("MLflow at http://127.0.0.1:9/x could not log run r1: ")
    assert "hunter2" not in warning.text
    assert "\n" not in warning.text
    wrong = track(record(), [], "nonsense://place")
    assert wrong is not None


def test_mlflow_is_imported_only_when_something_is_tracked() -> None:
    code = (
        "import sys\nfrom kaptain_magics.tracking.mlflow_runs import missing\n"
        "missing()\nassert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_study_is_tracked_by_its_supervisor(uri: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_TRACKING_URI", uri)
    workspace = Workspace()
    model = workspace.model("dev/tracked", name="Tracked", description="a parabola", version="1")
    plan = model.plan_tuning(
        TuningRequest(
            job=TrainingRequest(script=capture("c = 0.5\nprint(f'accuracy={1 - c * c}')")),
            domains={"c": Integer(0, 2)},
            objectives=["accuracy"],
            algorithm="grid",
        )
    )
    study = plan.start()
    assert study.wait(60) is RunState.SUCCEEDED, study.reason
    parent, children, _ = runs_of(uri, "dev/tracked")
    assert (parent.info.run_name, parent.info.status) == ("Tracked", "FINISHED")
    assert parent.data.tags["mlflow.note.content"] == "a parabola"
    assert parent.data.params == {"c": "0"}
    assert {c.data.params["c"]: c.data.metrics["accuracy"] for c in children} == {"0": 1.0, "1": 0.0, "2": -3.0}


def test_a_password_of_the_environment_reaches_the_server_and_no_record(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Tracker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Tracker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"127.0.0.1:{server.server_port}"
        monkeypatch.setenv("KAPTAIN_TRACKING_URI", f"http://ada:hunter2@{where}")
        workspace = Workspace()
        assert workspace.settings.tracking_uri == f"http://{where}"
        run = workspace.model("dev/told").plan_training(TrainingRequest(script=capture("print('accuracy=1')"))).start()
        assert run.wait(60) is RunState.SUCCEEDED
        until(lambda: not run.folder.lock.held_by_other())
        server.shutdown()
    assert set(seen) == {"Basic " + base64.b64encode(b"ada:hunter2").decode()}
    assert f"MLflow at http://{where} could not log" in (run.folder.path / "supervisor.log").read_text()
    assert [path for path in home.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()] == []


def test_a_database_keeps_its_user_and_loses_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgresql://ada:hunter2@db.example.com:5432/runs"
    for name in ("MLFLOW_TRACKING_URI", "KAPTAIN_TRACKING_URI"):
        monkeypatch.delenv("KAPTAIN_TRACKING_URI", raising=False)
        monkeypatch.setenv(name, uri)
        settings = Settings.load()
        assert settings.tracking_uri == "postgresql://ada@db.example.com:5432/runs"
        assert settings.whole_tracking_uri() == uri
        assert "hunter2" not in f"{settings} {settings.as_texts()}"
        assert Settings.load(settings.as_texts()).whole_tracking_uri() == uri  # as the supervisor does
    assert Settings(tracking_uri="sqlite:////x.db").whole_tracking_uri() == "sqlite:////x.db"  # another one
    with pytest.raises(ConfigError, match="tracking_uri holds a password"):
        Settings.load({"tracking_uri": uri})

"""Studies and endpoints through ``Model``: kept models, resumed and killed studies, the contract's calls."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from kaptain_magics.core.domains import Discrete, Double, Value
from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.states import Direction, EndpointState, RunState, TrialState
from kaptain_magics.errors import (
    DomainError,
    FrameworkError,
    NotFoundError,
    ObjectiveError,
    ServingError,
    StateError,
)
from kaptain_magics.model import Model, Study, Workspace
from kaptain_magics.model.cleaning import KINDS
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.model.tuning import plan_resumption
from kaptain_magics.script import capture
from tests.waiting import until

SOURCE = """
import time
print("a trial")
import numpy as np
from sklearn.linear_model import LinearRegression
import kaptain

c = 0.5
pause = 0.0
time.sleep(pause)
X = np.arange(8.0).reshape(-1, 2)
clf = LinearRegression().fit(X, X.sum(axis=1) * c)
kaptain.save_model(clf)
kaptain.log_metrics(accuracy=1 - (c - 0.3) ** 2)
"""


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace()


def objects(workspace: Workspace, stage: str) -> set[str]:
    base = f"{workspace.settings.models_uri}/dev/study/{stage}"
    return {entry.path.partition("/")[0] for entry in workspace.objects().list(base)}


def begin(workspace: Workspace, parameters: Mapping[str, Value] | None = None, **options: object) -> Study:
    plan = workspace.model("dev/study").plan_tuning(
        TuningRequest(
            job=TrainingRequest(script=capture(SOURCE), parameters=parameters or {}),
            domains={"c": Double(0, 1)},
            objectives=["accuracy"],
            seed=1,
            **options,
        )
    )  # type: ignore[arg-type]
    return plan.start()


def test_a_study_keeps_its_best_model_and_nothing_else(workspace: Workspace) -> None:
    study = begin(workspace, trials=6)
    assert study.wait(120) is RunState.SUCCEEDED, study.reason
    assert len(study.trials) == 6
    assert study.log(1)
    assert study.log().count("] trial ") == 6
    assert study.best is not None
    assert study.best_parameters == min((t.parameters for t in study.trials), key=lambda p: abs(float(p["c"]) - 0.3))
    assert objects(workspace, "trials") == set()
    assert objects(workspace, "tuned") == {study.artifact_uri.rpartition("/")[2]}
    model = workspace.model("dev/study")
    assert model.state == "tuned"
    assert model.hyperparameters == study.best_parameters
    assert model.metrics is not None
    assert set(model.metrics["accuracy"]) == {"min", "max", "latest"}


def test_a_stopped_study_goes_on_without_losing_a_trial(workspace: Workspace) -> None:
    study = begin(workspace, trials=6, parallel=1, parameters={"pause": 0.4})
    until(lambda: sum(t.state is TrialState.SUCCEEDED for t in study.trials) >= 2, 120)
    with pytest.raises(StateError, match="still running"):
        workspace.resume(study.run_id)
    study.stop()
    assert study.state is RunState.STOPPED
    done = {t.number: t.parameters for t in study.trials if t.state is TrialState.SUCCEEDED}
    assert objects(workspace, "trials") == set()
    resumed = workspace.resume("dev/study")
    assert resumed.wait(120) is RunState.SUCCEEDED, resumed.reason
    after = {t.number: t.parameters for t in resumed.trials if t.state is TrialState.SUCCEEDED}
    assert after.items() >= done.items()
    assert len(after) == 6
    assert workspace.objects().exists(resumed.artifact_uri)


def test_a_killed_study_is_put_in_order_by_the_next_look_and_goes_on(workspace: Workspace) -> None:
    study = begin(workspace, trials=5, parallel=1, parameters={"pause": 0.4})
    until(lambda: any(t.state is TrialState.SUCCEEDED for t in study.trials), 120)
    os.kill(int((study.folder.path / "supervisor.pid").read_text()), signal.SIGKILL)
    until(lambda: study.state.terminal)
    assert study.state is RunState.FAILED
    assert "--resume" in study.hint
    workspace.runs()
    until(lambda: objects(workspace, "trials") == set() and objects(workspace, "tuned"), 60)
    until(lambda: not study.folder.lock.held_by_other())
    resumed = plan_resumption(workspace, "dev/study", {"trials": 4}).start()
    assert resumed.wait(120) is RunState.SUCCEEDED, resumed.reason
    assert sum(t.state is TrialState.SUCCEEDED for t in resumed.trials) == 4
    assert workspace.clean(force=True) is not None
    assert not any("trials" in line for line in workspace.clean())


def test_an_objective_that_is_never_reported_ends_the_study_early(workspace: Workspace) -> None:
    plan = workspace.model("dev/study").plan_tuning(
        TuningRequest(
            job=TrainingRequest(script=capture(SOURCE)),
            domains={"c": Double(0, 1)},
            objectives=["accurracy"],
            direction=Direction.MINIMIZE,
            trials=20,
        )
    )
    study = plan.start()
    assert study.wait(120) is RunState.FAILED
    assert "metric `accurracy` never reported; seen: accuracy" in study.reason
    assert len(study.trials) < 20


def test_the_contracts_calls_from_tune_to_undeploy(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(
        "import argparse, numpy as np, kaptain\n"
        "from sklearn.linear_model import LinearRegression\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--c', type=float, default=1.0)\n"
        "c = parser.parse_args().c\n"
        "X = np.arange(8.0).reshape(-1, 2)\n"
        "kaptain.save_model(LinearRegression().fit(X, X.sum(axis=1) * c))\n"
        "kaptain.log_metrics(accuracy=c)\n"
    )
    model = Model(id="dev/study", name="Study", main_file="train.py")
    with pytest.raises(ServingError, match="is not deployed"):
        model.undeploy()
    study = model.tune({"--c": Discrete(["1", "2"])}, ["accuracy"], trials=2, algorithm="grid")
    assert study
    assert model.hyperparameters == {"--c": "2"}
    out = capsys.readouterr().out
    assert "Progress: 100%|█████████████████████████|2/2 [time: 0" in out
    assert "best_trial_name: study-tune-" in out
    model.serving_config = {"protocol_version": "v2"}
    try:
        assert model.deploy(cpu="0.5", memory="500M")
        out = capsys.readouterr().out
        assert "NAME                 READY" in out
        assert "Model dev/study deployed successfully. Cluster URL: http://127.0.0.1:" in out
        np.testing.assert_allclose(model.predict(np.array([[1.0, 2.0], [3.0, 4.0]])), [6.0, 14.0])
        with pytest.raises(ServingError, match=r"is deployed already\nadd --replace \(replace=True\)"):
            model.deploy()
        assert "kaptain-log[ERROR]: dev-study is deployed already" in capsys.readouterr().out
        assert model.train({"--c": 1})
        model.deploy_canary(30)
        endpoint = workspace.endpoint("dev/study")
        assert sorted(endpoint.status().traffic.values()) == [30, 70]
        model.deploy_canary(60)
        assert sorted(endpoint.status().traffic.values()) == [40, 60]
        model.promote_canary()
        assert list(endpoint.status().traffic.values()) == [100]
        until(lambda: abs(model.predict([[1.0, 2.0]])[0] - 3.0) < 1e-9)  # a kept-alive connection may lag a second
        assert endpoint.url in endpoint.curl()
        assert endpoint.url in endpoint.snippet()
        assert "listening on 127.0.0.1" in workspace.run("dev/study").log()
        (row,) = workspace.endpoints()
        assert row.state is EndpointState.READY
        assert model.state == "deployed"
    finally:
        model.undeploy()
    assert workspace.endpoints() == []
    with pytest.raises(NotFoundError):
        workspace.endpoint("dev/study")


def test_housekeeping(workspace: Workspace) -> None:
    study = begin(workspace, trials=1)
    study.wait(120)

    def left(force: bool = False) -> list[str]:
        return [line for line in workspace.clean(force, KINDS) if not line.startswith("idle warm worker")]

    shown = left()
    assert any(study.run_id in line for line in shown)
    assert left(force=True) == shown
    assert left() == []
    assert all(check.ok for check in workspace.doctor())
    assert "c = Double" in workspace.render(study.run_id)


def test_a_study_of_a_trained_model_takes_over_what_it_was_trained_with(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "factor.txt").write_text("2")
    source = "c = 1.0\nprint(f'accuracy={c * float(open(\"factor.txt\").read()) * scale}')"
    model = workspace.model("dev/study")
    run = model.plan_training(
        TrainingRequest(
            script=capture(source, sent=("scale",)),
            files=[str(tmp_path / "factor.txt")],
            capture=Capture(send=("scale",)),
            sent={"scale": 10.0},
        )
    ).start()
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    study = model.plan_tuning(TuningRequest(domains={"c": Discrete([3])}, objectives=["accuracy"], trials=1)).start()
    assert study.wait(60) is RunState.SUCCEEDED, study.reason
    assert study.metrics["accuracy"].latest == 60.0


def test_the_contracts_calls_refuse_what_is_no_domain_direction_or_framework(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(SOURCE)
    model = Model(id="dev/refuse", name="Refuse", main_file="train.py")
    with pytest.raises(DomainError, match=r"c=0\.1 is not a domain"):
        model.tune(hyperparameters={"c": 0.1}, objectives=["accuracy"])  # type: ignore[dict-item]
    with pytest.raises(ObjectiveError, match="unknown objective type 'minimise'") as refused:
        model.tune(hyperparameters={"c": Double(0, 1)}, objectives=["accuracy"], objective_type="minimise")
    assert "minimize" in refused.value.hint
    with pytest.raises(FrameworkError, match="unknown framework 'scikit'"):
        Model(id="dev/refuse", name="Refuse", main_file="train.py", framework="scikit")  # type: ignore[arg-type]
    assert not list((home / "runs").glob("*"))

"""State folders that older versions wrote are read, and their studies and models go on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kaptain_magics.core.states import EndpointState, RunKind, RunState
from kaptain_magics.model import Study, TrainingRun, Workspace
from kaptain_magics.model.requests import DeploymentRequest
from kaptain_magics.model.tuning import plan_resumption

ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture(params=sorted(p.name for p in ASSETS.glob("state-*")))
def workspace(request: pytest.FixtureRequest, home: Path) -> Workspace:
    """A copy of the folder as if it had been written where it lies now."""
    shutil.copytree(ASSETS / request.param, home, dirs_exist_ok=True)
    for path in home.rglob("*.json*"):
        text = path.read_text("utf-8")
        for mark, place in (("@HOME@", home), ("@CACHE@", home / "cache"), ("@TMP@", home / "tmp")):
            text = text.replace(mark, str(place))
        path.write_text(text, "utf-8")
    return Workspace()


def test_runs_are_read(workspace: Workspace) -> None:
    rows = {(row.record.kind, row.record.model_id): row for row in workspace.runs()}
    assert rows[RunKind.TRAIN, "dev/old"].state is RunState.SUCCEEDED
    assert rows[RunKind.TUNE, "dev/old"].reason == "all trials are done: 3"
    assert rows[RunKind.DEPLOY, "dev/old"].state is RunState.SUCCEEDED
    assert "ValueError: on purpose" in rows[RunKind.TRAIN, "dev/bad"].reason
    run = workspace.run(rows[RunKind.TRAIN, "dev/old"].record.run_id)
    assert isinstance(run, TrainingRun)
    assert run.log() == "epoch=1\n"
    assert run.metrics["acc"].latest == 2.0
    assert run.hyperparameters == {"c": 2}


def test_a_study_goes_on(workspace: Workspace) -> None:
    study = workspace.run(_study_id(workspace))
    assert isinstance(study, Study)
    assert len(study.trials) == 3
    assert study.best is not None
    best = study.best.metrics["acc"].latest
    more = plan_resumption(workspace, study.run_id, {"trials": 5}).start()
    assert more.wait(60) is RunState.SUCCEEDED, more.reason
    assert len(more.trials) == 5
    assert more.metrics["acc"].latest >= best


def _study_id(workspace: Workspace) -> str:
    return next(row.record.run_id for row in workspace.runs() if row.record.kind is RunKind.TUNE)


def test_a_model_is_served_in_the_place_of_a_dead_endpoint(workspace: Workspace) -> None:
    assert [revision.stage for revision in workspace.registry.model("dev/old").revisions] == ["trained", "tuned"]
    assert [(e.name, e.state) for e in workspace.endpoints()] == [("dev-old", EndpointState.FAILED)]
    deployment = workspace.model("dev/old").plan_deployment(DeploymentRequest(replace=True)).start()
    assert deployment.wait(60) is RunState.SUCCEEDED, deployment.reason
    try:
        assert deployment.endpoint.predict([[1.0]]).tolist() == [0]
    finally:
        deployment.endpoint.undeploy()

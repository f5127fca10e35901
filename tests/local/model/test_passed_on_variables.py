"""``--env NAME``: the value is taken from the kernel's environment whenever a run starts, and is in no record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics.core.domains import Categorical
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import ConfigError
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest, TuningRequest
from kaptain_magics.model.tuning import plan_resumption
from kaptain_magics.script import capture
from tests.servers import predictor
from tests.shell import Notebook

SHOW = """%%kaptain_train dev/passed --env DEMO_NAME --env GIVEN=plain-value
import os
n = 1
print("value", os.environ["DEMO_NAME"][::-1], os.environ["GIVEN"][::-1])
print(f"score={n}")
"""


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace()


def records(home: Path) -> str:
    return "".join(path.read_text("utf-8", "replace") for path in home.rglob("*") if path.suffix in (".json", ".jsonl"))


def test_a_later_run_takes_the_value_again(
    notebook: Notebook, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEMO_NAME", "first-value")
    run = notebook.run(SHOW)
    assert run.log() == "value eulav-tsrif eulav-nialp\nscore=1\n"
    assert run.record.job.env_names == ("DEMO_NAME",)
    monkeypatch.setenv("DEMO_NAME", "second-value")
    line = "%kaptain_tune dev/passed n=Categorical([1,2]) --algorithm grid --trials 2 --objective score"
    study = notebook.run(line)
    assert "value eulav-dnoces" in (study.folder.path / "trials").rglob("log.txt").__next__().read_text()
    assert (study.record.study.job.env_names, study.record.study.job.env) == (("DEMO_NAME",), {"GIVEN": "plain-value"})
    notebook.run("%kaptain show dev/passed")
    assert "first-value" not in records(home)
    assert "second-value" not in records(home)
    shown = capsys.readouterr().out
    assert "DEMO_NAME=********" in shown
    assert "GIVEN=********" in shown
    for value in ("first-value", "second-value", "plain-value"):
        assert value not in shown
        assert value not in repr(study.record)

    monkeypatch.delenv("DEMO_NAME")  # a new kernel
    for again in (line, "%kaptain_tune dev/passed --resume --trials 4", f"%kaptain resume {study.run_id}"):
        error = notebook.error(again)
        assert "DEMO_NAME" in str(error)
        assert "not set" in str(error)
    notebook.run("%kaptain show dev/passed")
    assert "DEMO_NAME=********" in capsys.readouterr().out
    notebook.run(f"{line} --env GIVEN=other --dry-run")  # what the line says stands in the place of what was before


def test_a_resumed_study_has_its_variables(workspace: Workspace, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_NAME", "one")
    script = capture("import os\nn = 1\nprint(f'score={len(os.environ[\"DEMO_NAME\"])}')\n")
    plan = workspace.model("dev/again").plan_tuning(
        TuningRequest(
            job=TrainingRequest(script=script, env={"DEMO_NAME": None}),
            domains={"n": Categorical((1, 2, 3, 4))},
            objectives=["score"],
            trials=1,
        )
    )
    assert plan.start().wait(60) is RunState.SUCCEEDED
    monkeypatch.setenv("DEMO_NAME", "twelve chars")
    again = plan_resumption(workspace, "dev/again", {"trials": 3}).start()
    assert again.wait(60) is RunState.SUCCEEDED
    assert again.best.metrics["score"].latest == 12
    assert "twelve chars" not in records(home)


@pytest.fixture
def deployed(workspace: Workspace) -> Iterator[Workspace]:
    yield workspace
    for status in workspace.endpoints():
        workspace.endpoint(status.name).undeploy()


def test_a_server_has_them_and_its_record_has_not(
    deployed: Workspace, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaptain_magics.storage import open_store

    monkeypatch.setenv("DEMO_NAME", "seventeen letters")
    code = "import os\n\ndef predict(inputs):\n    return {'y': inputs['x'] * 0 + len(os.environ['DEMO_NAME'])}\n"
    folder = predictor(tmp_path / "named", code)
    uri = f"{deployed.settings.models_uri}/dev/named/given/1"
    open_store(deployed.settings.models_uri, {}).put(folder, uri, "python", "python")
    plan = deployed.model("dev/named", framework="python").plan_deployment(
        DeploymentRequest(model_uri=uri, env={"DEMO_NAME": None})
    )
    deployment = plan.start()
    assert deployment.wait(60) is RunState.SUCCEEDED, deployment.reason
    assert deployed.endpoint("dev/named").predict({"x": [[1.0]]}).ravel().tolist() == [17]
    assert "seventeen letters" not in records(home)
    spec = json.loads((home / "local/endpoints/dev-named/endpoint.json").read_text())["stable"]["spec"]
    assert spec["env_names"] == ["DEMO_NAME"]


def test_a_variable_that_is_not_set_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMO_NAME", raising=False)
    with pytest.raises(ConfigError, match="DEMO_NAME"):
        workspace.model("a").plan_training(TrainingRequest(script=capture("print(1)"), env={"DEMO_NAME": None}))

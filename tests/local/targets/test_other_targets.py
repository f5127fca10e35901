"""A target of another distribution: found by its entry point, in the kernel and in the supervisor's process."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core import oinspect

from kaptain_magics.config import Settings
from kaptain_magics.core.domains import Discrete
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import ConfigError
from kaptain_magics.magics.grammar import parse
from kaptain_magics.magics.options import TRAIN
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture
from kaptain_magics.targets.base import target_names
from tests.distributions import install
from tests.shell import Notebook

ENTRY_POINTS = """
[kaptain_magics.targets]
toy = toy_target:ToyTarget
broken = toy_target_that_is_missing:Target
local = toy_target:ToyTarget
"""


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(Path(__file__).with_name("toy_target.py"), ENTRY_POINTS, tmp_path / "site", monkeypatch)


@pytest.mark.usefixtures("_installed")
def test_a_run_goes_to_it_by_name(home: Path) -> None:
    assert parse(TRAIN, "dev/toy --on toy").get("on") == "toy"
    workspace = Workspace(Settings.load({"target": "toy"}))
    run = workspace.model("dev/toy").plan_training(TrainingRequest(script=capture("print('a toy ran this')"))).start()
    run.wait(60)
    run.raise_for_failure()
    assert (run.target, run.log()) == ("toy", "a toy ran this\n")
    failed = workspace.model("dev/toy").plan_training(TrainingRequest(script=capture("raise SystemExit(3)"))).start()
    assert failed.wait(60) is RunState.FAILED
    assert failed.reason == "the script ended with exit code 3"


@pytest.mark.usefixtures("_installed")
def test_help_errors_and_completion_name_it(notebook: Notebook) -> None:
    assert "--on local|docker|kubernetes|toy|broken" in TRAIN.usage()
    assert "--on local|docker|kubernetes|toy|broken" in oinspect.getdoc(notebook.shell.find_line_magic("kaptain_tune"))
    assert "write --on local|docker|kubernetes|toy|broken" in str(notebook.error("%%kaptain_train a --on\nx = 1"))
    assert "did you mean 'toy'?" in str(notebook.error("%%kaptain_train a --on tony\nx = 1"))


@pytest.mark.usefixtures("_installed")
def test_a_study_runs_on_it(home: Path) -> None:
    workspace = Workspace(Settings.load({"target": "toy"}))
    script = capture("c = 1.0\nprint(f'accuracy={c}')")
    domains = {"c": Discrete([0.25, 0.5])}
    job = TrainingRequest(script=script)
    request = TuningRequest(job=job, domains=domains, objectives=("accuracy",), trials=2, algorithm="grid")
    study = workspace.model("dev/toy").plan_tuning(request).start()
    study.wait(60)
    study.raise_for_failure()
    assert study.best.metrics["accuracy"].latest == 0.5


@pytest.mark.usefixtures("_installed")
def test_names_of_ours_cannot_be_taken_and_a_broken_one_is_named(home: Path) -> None:
    assert target_names() == ["local", "docker", "kubernetes", "toy", "broken"]
    assert type(Workspace().target("local")).__name__ == "LocalTarget"
    with pytest.raises(ConfigError, match="ModuleNotFoundError") as raised:
        Workspace().target("broken")
    assert raised.value.hint == "check the installation of kaptain-toy-target"


def test_an_unknown_name_says_what_is_there(home: Path) -> None:
    with pytest.raises(ConfigError, match="unknown target 'dockr'") as raised:
        Workspace().target("dockr")
    assert raised.value.hint == "did you mean 'docker'?"

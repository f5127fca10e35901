"""Studies by their lines: which way they go, which metrics count, what is taken over, and that all of it is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kaptain_magics.core.domains import Discrete
from kaptain_magics.core.events import Noted
from kaptain_magics.core.states import Direction
from kaptain_magics.model import Model, Study
from tests.shell import Notebook

Capture = pytest.CaptureFixture[str]
GRID = "--algorithm grid --parallel 1 --file train.py"


def write(source: str) -> None:
    Path("train.py").write_text(source)


def lines(study: Study, warning: bool = False) -> list[str]:
    """The study's notes and warnings."""
    events = [event for event in study.folder.events() if isinstance(event, Noted) and event.warning is warning]
    return [event.text for event in events]


def test_a_loss_is_minimized_and_that_is_the_first_line(notebook: Notebook, capsys: Capture) -> None:
    write("c = 0.5\nprint(f'loss={c}')\n")
    study = notebook.run(f"%kaptain_tune dev/loss c=Discrete([0.1,0.5,0.9]) --objective loss {GRID}")
    first = "The study minimizes loss (as its name suggests; loss:max would maximize it)."
    assert lines(study)[:2] == [first, "The grid has 3 combinations: 3 trials instead of 16."]
    assert study.best_parameters == {"c": 0.1}
    shown = capsys.readouterr().out
    assert shown.index(first) < shown.index("Creating experiment")
    study = notebook.run(f"%kaptain_tune dev/loss c=Discrete([0.1,0.5,0.9]) --objective loss:max --trials 3 {GRID}")
    assert lines(study)[0] == "The study maximizes loss (as asked)."
    assert study.best_parameters == {"c": 0.9}
    resumed = notebook.run("%kaptain_tune dev/loss --resume --trials 4")
    assert resumed.best_parameters == {"c": 0.9}
    assert lines(resumed)[0] == "The study maximizes loss (as asked)."
    capsys.readouterr()
    notebook.run("%kaptain_tune dev/loss --trials 3 --dry-run")
    shown = capsys.readouterr().out
    assert "# The study maximizes loss (as asked)." in shown  # its direction is kept with it
    assert re.search(r"# taken over from the last study, dev-loss-tune-\w+: c=Discrete.*--objective loss", shown)


def test_objectives_with_directions_of_their_own(notebook: Notebook) -> None:
    write("c = 0.5\nprint(f'mse={c} accuracy={1 - c}')\n")
    line = "%kaptain_tune dev/many c=Discrete([0.1,0.9]) --minimize mse --maximize accuracy,f1"
    study = notebook.run(f"{line} --trials 2 {GRID}")
    spec = study.record.study
    assert (spec.objectives, spec.direction) == (("mse", "accuracy", "f1"), Direction.MINIMIZE)
    assert spec.directions == {"accuracy": Direction.MAXIMIZE, "f1": Direction.MAXIMIZE}
    assert "Only reported, not optimized: accuracy (higher is better), f1" in lines(study)[0]
    assert lines(study, warning=True) == ["trial 0 did not report f1", "no trial reported f1"]
    assert study.best_parameters == {"c": 0.1}
    for bad, text in (
        ("--minimize mse:max", "mse cannot be both minimized and maximized"),
        ("--objective mse:max --minimize mse", "mse cannot be both minimized and maximized"),
        ("--minimize space --objective mse", "is `space` a metric, or the dict of this notebook"),
        ("--minimize --maximize", "exclude each other"),
        ("--objective mse:max --minimize", "mse cannot be both maximized and minimized"),
    ):
        notebook.run("space = {'c': 1}")
        error = notebook.error(f"%kaptain_tune dev/many c=Discrete([0.1,0.9]) {bad} --trials 2 {GRID}")
        assert text in str(error)


def test_another_objective_does_not_inherit_the_direction_and_the_goal(notebook: Notebook) -> None:
    write("c = 0.5\nprint(f'loss={c} accuracy={c}')\n")
    notebook.run(f"%kaptain_tune dev/next c=Discrete([0.1,0.9]) --objective loss --goal 0.05 --trials 2 {GRID}")
    study = notebook.run(f"%kaptain_tune dev/next --objective accuracy --trials 2 {GRID}")
    assert (study.record.study.direction, study.record.study.goal) == (Direction.MAXIMIZE, None)
    assert study.best_parameters == {"c": 0.9}


def test_the_call_of_the_contract_minimizes_a_loss_too(home: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("import argparse\np = argparse.ArgumentParser()\np.add_argument('--c')\nprint(f'loss={p.parse_args().c}')\n")
    model = Model(id="dev/contract", main_file="train.py")
    options = {"trials": 2, "algorithm": "grid", "parallel_trials": 1}
    study = model.tune({"--c": Discrete([0.1, 0.9])}, ["loss"], **options)
    assert study.best_parameters == {"--c": 0.1}
    assert lines(study)[0].startswith("The study minimizes loss")
    study = model.tune({"--c": Discrete([0.1, 0.9])}, ["loss"], objective_type="maximize", **options)
    assert study.best_parameters == {"--c": 0.9}


def test_a_url_is_no_metric(notebook: Notebook) -> None:
    write("c = 0.5\nprint(f'accuracy={c}')\nprint('url=http://a.b/?x=3&accuracy=7')\nprint(f'SVC(accuracy={c})')\n")
    study = notebook.run(f"%kaptain_tune dev/url c=Discrete([0.1,0.9]) --objective accuracy --trials 2 {GRID}")
    assert [trial.metrics["accuracy"].latest for trial in study.trials] == [0.1, 0.9]
    source = "gamma = 0.1\nprint(f'gamma={gamma}')\nprint('SVC(gamma=0.1)')\nprint('epoch=1 loss=2')"
    run = notebook.run(f"%%kaptain_train dev/url\n{source}")
    assert {name: value.latest for name, value in run.metrics.items()} == {"epoch": 1.0, "loss": 2.0}


def test_a_line_that_looked_like_the_metric_is_named(notebook: Notebook) -> None:
    write("c = 0.5\nprint(f'Test accuracy: {c}')\n")
    error = notebook.error(f"%kaptain_tune dev/near c=Discrete([0.1,0.9]) --objective accuracy --trials 2 {GRID}")
    assert "never reported; seen: none; this line looks like it: Test accuracy: 0." in str(error)
    assert 'print(f"accuracy={...}")' in str(error)


def test_the_next_study_takes_the_best_values_of_the_last_one(notebook: Notebook) -> None:
    notebook.run(
        "%%kaptain_train dev/values x=1.0\nx = 0.0\ny = 0.0\nz = 3.0\nprint(f'accuracy={-(x - 5) ** 2 + y}')\n"
    )
    notebook.run("%kaptain_tune dev/values x=Discrete([2,4]) --objective accuracy --algorithm grid --parallel 1")
    study = notebook.run(
        "%kaptain_tune dev/values y=Discrete([1,2]) --objective accuracy --algorithm grid --parallel 1"
    )
    assert study.record.study.job.parameters == {"x": 4}
    assert study.best.metrics["accuracy"].latest == 1.0
    assert "Taken from the best trial of the last study: x=4." in lines(study)
    again = notebook.run("%kaptain_tune dev/values z=Discrete([1]) --objective accuracy --algorithm grid")
    assert again.record.study.job.parameters == {"x": 4, "y": 2}
    assert "Taken from the last run: x=4." in lines(again)


def test_what_an_algorithm_passes_over_is_reported_before_the_first_trial(notebook: Notebook, capsys: Capture) -> None:
    write("kind = 'a'\nx = 0.1\ny = 0.1\nprint(f'accuracy={x}')\n")
    domains = "x=Double(0,1) y=Double(0,1) kind=Categorical(['a','b'])"
    study = notebook.run(
        f"%kaptain_tune dev/cma {domains} --algorithm cmaes --trials 2 --objective accuracy --file train.py"
    )
    (warning,) = lines(study, warning=True)
    assert warning.startswith("cmaes searches numbers only: kind is sampled at random")
    assert (
        list(study.folder.events()).index(next(e for e in study.folder.events() if getattr(e, "text", "") == warning))
        < 4
    )

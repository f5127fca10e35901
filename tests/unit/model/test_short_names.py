"""Hyperparameters by the end of their names, through ``Model``: planned, nothing is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.core.domains import Double, Integer
from kaptain_magics.errors import DomainError, ScriptError
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture

SCRIPT = capture("import sys\nparams = {'n': 1, 'x': 0.5, 'layers': (8,)}\nother = {'x': 1}\nlr = float(sys.argv[1])\n")


def test_a_training_gets_whole_names_and_says_where_they_are(home: Path) -> None:
    request = TrainingRequest(script=SCRIPT, parameters={"n": 20, "layers": (1, 2), "params.x": 1.0})  # type: ignore[dict-item]
    plan = Workspace().model("dev/m").plan_training(request)
    assert plan.spec.assignments == {"params.n": 20, "params.layers": "(1, 2)", "params.x": 1.0}
    assert "params.n in line 2, params.layers in line 2, params.x in line 2" in str(plan.notes)
    with pytest.raises(ScriptError, match="`x` could be any of 2 values of the script"):
        Workspace().model("dev/m").plan_training(TrainingRequest(script=SCRIPT, parameters={"x": 1.0}))


def test_a_study_gets_whole_names_in_conditions_and_settings_too(home: Path) -> None:
    request = TuningRequest(
        job=TrainingRequest(script=SCRIPT),
        domains={"n": Integer(1, 9), "params.x": Double(0, 1).when(n=3)},
        objectives=("score",),
        algorithm="hyperband",
        algorithm_settings={"resource_name": "n"},
    )
    spec = Workspace().model("dev/m").plan_tuning(request).spec
    assert list(spec.domains) == ["params.n", "params.x"]
    assert spec.domains["params.x"].conditions[0].name == "params.n"
    assert spec.algorithm_settings == {"resource_name": "params.n"}


def test_a_word_by_its_place_cannot_be_left_out(home: Path) -> None:
    request = TuningRequest(
        job=TrainingRequest(script=SCRIPT),
        domains={"n": Integer(1, 9), "lr": Double(0, 1).when(n=3)},
        objectives=("score",),
    )
    with pytest.raises(ScriptError, match="`lr` is a word of the command line by its place"):
        Workspace().model("dev/m").plan_tuning(request)


def test_what_is_not_a_domain_is_refused(home: Path) -> None:
    request = TuningRequest(job=TrainingRequest(script=SCRIPT), domains={"n": 3}, objectives=("score",))  # type: ignore[dict-item]
    with pytest.raises(DomainError, match="is not a domain"):
        Workspace().model("dev/m").plan_tuning(request)

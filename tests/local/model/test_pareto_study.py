"""Several objectives at once: NSGA-II, the Pareto set, and the models that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.core.domains import Double
from kaptain_magics.core.events import Noted
from kaptain_magics.core.pareto import BestTrials
from kaptain_magics.errors import AlgorithmError, ObjectiveError
from kaptain_magics.model import Study, Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.model.tuning import plan_resumption
from kaptain_magics.script import capture

SOURCE = """
import kaptain
from sklearn.dummy import DummyRegressor
x = 0.5
kaptain.save_model(DummyRegressor(strategy="constant", constant=x).fit([[0]], [0]))
kaptain.log_metrics(accuracy=x)
if x < 0.9:
    kaptain.log_metrics(latency=x * x)
"""


def plan(workspace: Workspace, **options: object):
    fields = {"objectives": ("accuracy", "latency"), "trials": 12, "seed": 3, "failed_trials": 9, **options}
    request = TuningRequest(job=TrainingRequest(script=capture(SOURCE)), domains={"x": Double(0, 1)}, **fields)
    return workspace.model("dev/pareto").plan_tuning(request)


def run(workspace: Workspace, **options: object) -> Study:
    study = plan(workspace, **options).start()
    study.wait()
    study.raise_for_failure()
    return study


def test_the_pareto_set_is_kept_with_its_models(home: Path) -> None:
    workspace = Workspace()
    study = run(workspace, algorithm="nsga2", algorithm_settings={"population_size": "4"})
    assert study.spec.pareto
    succeeded = [t for t in study.trials if t.parameters["x"] < 0.9]
    assert {t.number for t in study.pareto} == {t.number for t in succeeded}  # each is better in one of the two
    missing = [t for t in study.trials if t.parameters["x"] >= 0.9]
    assert all("latency" in t.reason for t in missing)
    assert study.best is not None
    assert study.best.parameters["x"] == max(t.parameters["x"] for t in succeeded)
    assert {t.number for t in study.best_trials} == {t.number for t in study.to_optuna().best_trials}
    revisions = workspace.registry.model("dev/pareto").revisions
    assert {r.hyperparameters["x"] for r in revisions} == {t.parameters["x"] for t in study.pareto}
    assert revisions[-1].hyperparameters == study.best_params
    notes = [e.text for e in study.folder.events() if isinstance(e, Noted)]
    assert "The study maximizes accuracy and minimizes latency, together" in notes[0]
    assert any(text.startswith(f"The Pareto set has {len(study.pareto)} trials") for text in notes)
    resumed = plan_resumption(workspace, study.run_id, {"trials": 14}).start()
    resumed.wait()
    resumed.raise_for_failure()
    known = BestTrials.of(resumed.trials, resumed.spec.deciding)
    assert len(resumed.trials) == 14
    assert {t.number for t in resumed.pareto} == {t.number for t in known.trials} >= set()


def test_without_it_the_first_decides(home: Path) -> None:
    study = run(Workspace(), trials=4)
    assert not study.spec.pareto
    assert study.best is not None
    assert study.best.parameters["x"] == max(t.parameters["x"] for t in study.trials)


def test_what_cannot_be_is_refused(home: Path) -> None:
    workspace = Workspace()
    with pytest.raises(AlgorithmError, match="cmaes"):
        plan(workspace, algorithm="cmaes", pareto=True)
    with pytest.raises(AlgorithmError, match="bayesianoptimization optimizes one objective, not several together"):
        plan(workspace, algorithm="bayesianoptimization", pareto=True)
    with pytest.raises(AlgorithmError, match="medianstop compares trials by one objective"):
        plan(workspace, algorithm="tpe", pareto=True, early_stopping="medianstop")
    with pytest.raises(ObjectiveError, match="a Pareto set needs two objectives"):
        plan(workspace, objectives=("accuracy",), pareto=True)

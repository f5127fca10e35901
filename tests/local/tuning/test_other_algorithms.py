"""An algorithm of another distribution: found by its entry point, in the kernel and in the supervisor's process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.algorithm_names import Algorithm
from kaptain_magics.core.domains import Double
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import AlgorithmError
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture
from kaptain_magics.targets.base import TargetConfig, open_target
from kaptain_magics.testing.algorithm import AlgorithmSuite, study
from kaptain_magics.tuning.algorithms import algorithm_names, definition_of, make_search
from kaptain_magics.tuning.checks import check_study
from tests.distributions import install

ENTRY_POINTS = """
[kaptain_magics.algorithms]
toy-climber = toy_algorithm:TOY
broken = toy_algorithm_that_is_missing:TOY
wrong = toy_algorithm:HillClimber
tpe = toy_algorithm:TOY
"""
SCRIPT = "x = 0.5\nimport kaptain\nkaptain.log_metrics(accuracy=1 - (x - 0.3) ** 2)\n"
DOMAINS = {"x": Double(0, 1)}


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(Path(__file__).with_name("toy_algorithm.py"), ENTRY_POINTS, tmp_path / "site", monkeypatch)
    yield
    sys.modules.pop("toy_algorithm", None)


@pytest.mark.usefixtures("_installed")
class TestToyClimber(AlgorithmSuite):
    algorithm = "toy-climber"
    learns = True


@pytest.mark.usefixtures("_installed")
def test_a_study_uses_it_by_name(home: Path) -> None:
    request = TuningRequest(
        job=TrainingRequest(script=capture(SCRIPT)),
        domains=DOMAINS,
        objectives=["accuracy"],
        trials=4,
        algorithm="Toy-Climber",
        algorithm_settings={"reach": "0.01"},
        seed=1,
    )
    plan = Workspace().model("dev/toy").plan_tuning(request)
    assert plan.spec.algorithm == "toy-climber"
    run = plan.start()
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    assert len(run.trials) == 4


@pytest.mark.usefixtures("_installed")
def test_it_has_a_name_like_ours_which_cannot_be_taken() -> None:
    assert algorithm_names()[-3:] == ["toy-climber", "broken", "wrong"]
    assert algorithm_names().count("tpe") == 1
    assert definition_of(Algorithm.of("tpe")).factory == "kaptain_magics.tuning.guided:tpe"
    with pytest.raises(AlgorithmError, match="did you mean 'toy-climber'"):
        Algorithm.of("toy_climbr")
    with pytest.raises(AlgorithmError, match="darts, toy-climber, broken, wrong"):
        Algorithm.of("x")


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"algorithm": "broken"}, "'broken' cannot be imported from .*: ModuleNotFoundError", "of kaptain-toy-algo"),
        ({"algorithm": "wrong"}, "entry point is a type, not an AlgorithmDefinition", "correct the entry point"),
        ({"algorithm_settings": {"rech": "1"}}, "toy-climber has no setting 'rech'", "did you mean 'reach'"),
        ({"algorithm_settings": {"reach": "0"}}, "reach '0' is not a number above 0", "correct reach"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(changes: dict, message: str, hint: str) -> None:
    with pytest.raises(AlgorithmError, match=message) as raised:
        check_study(study(**{"algorithm": "toy-climber", "domains": DOMAINS, **changes}))
    assert hint in raised.value.hint


@pytest.mark.usefixtures("_installed")
def test_a_search_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    definition = definition_of(Algorithm.of("toy-climber"))
    monkeypatch.setattr("toy_algorithm.TOY", replace(definition, factory="toy_algorithm:NoSuchSearch"))
    with pytest.raises(AlgorithmError, match="toy_algorithm:NoSuchSearch cannot be imported: AttributeError") as raised:
        make_search(study("toy-climber", DOMAINS))
    assert "check the installation" in raised.value.hint


@pytest.mark.usefixtures("_installed")
def test_katib_does_not_have_it_and_the_loop_runs_it_there(tmp_path: Path) -> None:
    spec = study("toy-climber", DOMAINS)
    katib = open_target("kubernetes", TargetConfig(home=tmp_path, cache=tmp_path)).study_runner
    check_study(spec, katib)
    with pytest.raises(AlgorithmError, match="Katib has no algorithm toy-climber") as raised:
        check_study(msgspec.structs.replace(spec, tuner="katib"), katib)
    assert "--tuner jobs" in raised.value.hint


def test_without_its_distribution_the_name_is_unknown_and_a_record_of_it_readable() -> None:
    with pytest.raises(AlgorithmError, match="unknown algorithm 'toy-climber'"):
        Algorithm.of("toy-climber")
    assert Algorithm("toy-climber").value == "toy-climber"
    assert not Algorithm("toy-climber").in_katib
    with pytest.raises(ValueError, match="is not a valid Algorithm"):
        Algorithm("no name")

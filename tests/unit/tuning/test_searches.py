"""What one algorithm alone does; what all do is in ``kaptain_magics.testing.algorithm``."""

from __future__ import annotations

import pytest

from kaptain_magics.core.domains import Categorical, Discrete, Double, Integer
from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.testing.algorithm import BOWL_DOMAINS, bowl, ended, walk
from kaptain_magics.tuning.algorithms import make_search


def test_the_grid_is_every_combination_once(studies) -> None:
    domains = {"a": Discrete(["1", "2"]), "b": Categorical(["x", "y", "z"]), "c": Integer(7, 7)}
    search = make_search(studies.spec(algorithm="grid", domains=domains))
    points = walk(search, 99)
    assert [(p["a"], p["b"], p["c"]) for p in points] == [(a, b, 7) for a in "12" for b in "xyz"]
    assert search.ask(99) is None


def test_a_resumed_grid_leaves_out_what_is_finished_and_repeats_what_was_killed(studies) -> None:
    spec = studies.spec(algorithm="grid", domains={"a": Integer(0, 5)})
    search = make_search(spec)
    search.tell(ended(0, {"a": 0}), 1.0)
    search.tell(ended(1, {"a": 3}, TrialState.FAILED), None)
    search.tell(ended(2, {"a": 4}, TrialState.KILLED), None)
    assert [p["a"] for p in walk(search, 9, first=3)] == [1, 2, 4, 5]


@pytest.mark.parametrize("algorithm", ["random", "sobol", "hyperband"])
def test_points_that_follow_from_the_number_alone_are_the_same_after_a_resume(studies, algorithm: str) -> None:
    settings = {"r_l": "9"} if algorithm == "hyperband" else {}
    spec = studies.spec(algorithm=algorithm, domains={"x": Double(0, 1)}, algorithm_settings=settings)
    resumed = make_search(spec)
    for number, parameters in enumerate(walk(make_search(spec), 14)):
        resumed.tell(ended(number, parameters), 0.0)
    assert walk(resumed, 14, first=14) == walk(make_search(spec), 28)[14:]


@pytest.mark.parametrize("acquisition", ["EI", "PI", "LCB"])
def test_bayesian_optimisation_comes_close(studies, acquisition: str) -> None:
    settings = {"acq_func": acquisition, "n_initial_points": "8"}
    spec = studies.spec(
        algorithm="bayesianoptimization",
        algorithm_settings=settings,
        domains=BOWL_DOMAINS,
        direction=Direction.MINIMIZE,
    )
    assert min(bowl(p) for p in walk(make_search(spec), 60, bowl)) < 0.02


def test_bayesian_optimisation_survives_what_its_model_cannot(studies) -> None:
    for worth in (lambda p: 1.0, lambda p: 1e308 * p["x"], lambda p: float(p["x"] > 0.99), lambda p: 1e-300 * p["x"]):
        points = walk(
            make_search(studies.spec(algorithm="bayesianoptimization", domains={"x": Double(0, 1)})), 25, worth
        )
        assert len({p["x"] for p in points}) > 12
    few = {"a": Categorical(["x", "y"]), "n": Integer(0, 1)}
    assert (
        len(walk(make_search(studies.spec(algorithm="bayesianoptimization", domains=few)), 30, lambda p: p["n"])) == 30
    )


def test_bayesian_optimisation_does_not_slow_down_for_ever(studies) -> None:
    search = make_search(studies.spec(algorithm="bayesianoptimization", domains=BOWL_DOMAINS))
    for number in range(500):
        parameters = make_search(studies.spec(domains=BOWL_DOMAINS)).ask(number)
        search.tell(ended(number, parameters), -bowl(parameters))
    assert len(search._observations) == 150
    assert max(value for _, value in search._observations) == pytest.approx(
        max(-bowl(make_search(studies.spec(domains=BOWL_DOMAINS)).ask(n)) for n in range(500))
    )
    assert search.ask(500) is not None

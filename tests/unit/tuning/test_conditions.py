"""Conditional domains: what is searched only where another hyperparameter has certain values."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import msgspec
import pytest

from kaptain_magics.core.domains import AnyDomain, Categorical, Condition, Discrete, Double, Integer, Value
from kaptain_magics.core.states import TrialState
from kaptain_magics.errors import AlgorithmError, DomainError
from kaptain_magics.targets.kubernetes.studies.katib_checks import check_katib
from kaptain_magics.testing.algorithm import ended, study, walk
from kaptain_magics.tuning.algorithms import make_search
from kaptain_magics.tuning.checks import check_study, fit_grid, remarks
from kaptain_magics.tuning.optuna_study import to_optuna

DOMAINS: dict[str, AnyDomain] = {
    "gamma": Double(1e-4, 1, log=True).when(kernel=["rbf", "poly"]),
    "kernel": Categorical(("linear", "rbf", "poly")),
    "degree": Integer(2, 5).when(kernel="poly"),
    "coef": Double(0, 1, conditions=(Condition("degree", ">=", (4,)),)),
    "c": Double(0.1, 10, log=True),
    "d": Double(0, 1),
}


def is_right(point: Mapping[str, Value]) -> bool:
    """Whether a point has what it is to have, and nothing else."""
    kernel = point["kernel"]
    expected = {"kernel", "c", "d"}
    expected |= {"gamma"} if kernel in ("rbf", "poly") else set()
    expected |= {"degree"} if kernel == "poly" else set()
    expected |= {"coef"} if int(point.get("degree", 0)) >= 4 else set()
    return set(point) == expected and all(DOMAINS[name].contains(value) for name, value in point.items())


@pytest.mark.parametrize(
    "algorithm", ["random", "sobol", "tpe", "multivariate-tpe", "bayesianoptimization", "cmaes", "nsga2"]
)
def test_only_what_holds_is_sampled(algorithm: str) -> None:
    settings = {"population_size": "6"} if algorithm == "nsga2" else {}
    spec = study(algorithm, DOMAINS, algorithm_settings=settings)
    check_study(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = walk(make_search(spec), 40, lambda p: float(p.get("gamma", 2)))
        assert all(map(is_right, points))
        assert {len(point) for point in points} == {3, 4, 5, 6}
        resumed = make_search(spec)
        for number, point in enumerate(points):
            resumed.tell(ended(number, point), float(point.get("gamma", 2)))
        assert all(map(is_right, walk(resumed, 20, lambda p: 1.0, first=40)))


def test_a_grid_has_no_two_that_are_the_same_trial() -> None:
    domains: dict[str, AnyDomain] = {
        "kernel": Categorical(("linear", "rbf")),
        "gamma": Discrete((1, 2, 3)).when(kernel="rbf"),
        "n": Integer(1, 2),
    }
    spec = study("grid", domains, trials=50)
    assert fit_grid(spec)[0].trials == 8
    points = walk(make_search(spec), 50)
    assert len(points) == len({str(p) for p in points}) == 8
    resumed = make_search(spec)
    for number, point in enumerate(points[:5]):
        resumed.tell(ended(number, point), 1.0)
    assert walk(resumed, 50, first=5) == points[5:]


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        ({"g": Double(0, 1).when(kernel="rbf")}, "g is searched if kernel == 'rbf', but kernel is not searched"),
        (
            {"kernel": Categorical(("a", "b")), "g": Double(0, 1).when(kernel="rbf")},
            "g is searched if kernel == 'rbf', which never holds",
        ),
        ({"n": Integer(1, 3), "g": Double(0, 1, conditions=(Condition("n", ">", (3,)),))}, "which never holds"),
        ({"a": Integer(1, 3).when(b=1), "b": Integer(1, 3).when(a=1)}, "the conditions of a, b go in a circle"),
    ],
)
def test_conditions_that_cannot_be_are_refused(domains: dict[str, AnyDomain], message: str) -> None:
    with pytest.raises(DomainError) as caught:
        check_study(study("random", domains))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("operator", "values", "true", "false"),
    [
        ("==", ("true",), "true", "false"),
        ("==", (16,), "16", "32"),
        ("!=", ("a",), "b", "a"),
        ("in", (1, 2), 2, 3),
        ("not in", (1, 2), 3, 1),
        ("<", (0.5,), 0.4, 0.5),
        ("<=", (0.5,), 0.5, 0.6),
        (">", (0.5,), "0.6", 0.5),
        (">=", (0.5,), 0.5, "text"),
    ],
)
def test_operators(operator: str, values: tuple[Value, ...], true: Value, false: Value) -> None:
    condition = Condition("x", operator, values)
    assert condition.holds(true)
    assert not condition.holds(false)
    assert not condition.holds(None)


def test_domains_are_shown_as_they_are_written_and_survive_the_record() -> None:
    assert repr(DOMAINS["gamma"]) == "Double(0.0001, 1.0, log=True) if kernel in ('rbf', 'poly')"
    assert repr(Categorical(("a", "b"))) == "Categorical(('a', 'b'))"
    assert msgspec.json.decode(msgspec.json.encode(DOMAINS), type=dict[str, AnyDomain]) == DOMAINS
    old = b'{"type":"double","min":0.0,"max":1.0,"log":false,"step":null}'
    assert msgspec.json.decode(old, type=AnyDomain) == Double(0, 1)


def test_what_an_algorithm_cannot_learn_is_said() -> None:
    said = [note.text for note in remarks(study("cmaes", DOMAINS))]
    assert "cmaes learns what every trial has: gamma is sampled at random where it is searched." in said
    assert not list(remarks(study("tpe", DOMAINS)))


def test_optuna_gets_what_was_searched() -> None:
    spec = study("random", DOMAINS)
    trials = [ended(n, p, TrialState.FAILED) for n, p in enumerate(walk(make_search(spec), 6))]
    assert [t.params.keys() for t in to_optuna(spec, trials).trials] == [t.parameters.keys() for t in trials]


def test_katib_refuses_what_it_has_not() -> None:
    with pytest.raises(DomainError, match="Katib has no conditional hyperparameters: gamma=Double") as caught:
        check_katib(study("random", DOMAINS))
    assert "--tuner jobs" in caught.value.hint
    both = study("random", {"c": Double(0, 1)}, objectives=("accuracy", "latency"), pareto=True)
    with pytest.raises(AlgorithmError, match="Katib optimizes one objective, not several together"):
        check_katib(both)
    with pytest.raises(AlgorithmError, match="Katib has no algorithm nsga2"):
        check_katib(study("nsga2", {"c": Double(0, 1)}))

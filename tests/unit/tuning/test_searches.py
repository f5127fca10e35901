"""Every algorithm over every kind of domain: valid values, reproducible, better than chance where it learns."""

from __future__ import annotations

import math
import statistics
import warnings

import pytest

from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Double, Integer, Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.tuning.algorithms import ALGORITHMS, make_search

DOMAINS: dict[str, AnyDomain] = {
    "double": Double(-2.0, 3.0),
    "log": Double(1e-4, 1e-1, log=True),
    "step": Double(0.1, 0.9, step=0.2),
    "integer": Integer(-3, 12),
    "log_integer": Integer(1, 512, log=True),
    "step_integer": Integer(8, 64, step=8),
    "discrete": Discrete(["5", "10", "20"]),
    "pinned": Discrete([7]),
    "categorical": Categorical(["rbf", "linear", "poly"]),
    "mixed": Categorical([1, 1.0, "1"]),
}
COUNTABLE = {name: d for name, d in DOMAINS.items() if name not in ("double", "log", "log_integer")}


def ended(number: int, parameters: dict[str, Value], state: TrialState = TrialState.SUCCEEDED) -> TrialChanged:
    return TrialChanged(number=number, name=f"t{number}", state=state, parameters=parameters)


def spec_of(studies, algorithm: str, domains, **changes):
    settings = {"r_l": "9"} if algorithm == "hyperband" else {}
    return studies.spec(algorithm=algorithm, domains=domains, algorithm_settings=settings, **changes)


def walk(search, count: int, worth=lambda p: 0.0, first: int = 0) -> list[dict[str, Value]]:
    points = []
    for number in range(first, first + count):
        parameters = search.ask(number)
        if parameters is None:
            break
        points.append(parameters)
        search.tell(ended(number, parameters), worth(parameters))
    return points


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [(a, n) for a in ALGORITHMS for n in [*DOMAINS, "all"] if a != "grid" or n in [*COUNTABLE, "all"]],
)
def test_values_lie_in_their_domains(studies, algorithm: str, name: str) -> None:
    known = COUNTABLE if algorithm == "grid" else DOMAINS
    domains = known if name == "all" else {name: known[name]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing that Optuna or SciPy think of their parts reaches the user
        points = walk(make_search(spec_of(studies, algorithm, domains)), 25, lambda p: float(hash(str(p)) % 97))
    assert points
    for point in points:
        assert list(point) == list(domains)
        assert all(domains[k].contains(v) for k, v in point.items())
        assert all(type(v) is int for k, v in point.items() if "integer" in k)
        assert all(type(v) is str for k, v in point.items() if k in ("discrete", "categorical"))


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
@pytest.mark.parametrize("direction", list(Direction))
def test_a_seed_gives_the_same_points(studies, algorithm: str, direction: Direction) -> None:
    domains = COUNTABLE if algorithm == "grid" else DOMAINS

    def worth(p: dict[str, Value]) -> float:
        return float(p["integer"]) + float(p["discrete"])

    spec = spec_of(studies, algorithm, domains, direction=direction)
    assert walk(make_search(spec), 30, worth) == walk(make_search(spec), 30, worth)


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


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a != "grid"])
def test_a_resumed_study_goes_on_with_other_points(studies, algorithm: str) -> None:
    domains = {"x": Double(0, 1), "y": Double(0, 1), "k": Categorical(["a", "b"])}
    spec = spec_of(studies, algorithm, domains)

    def worth(p: dict[str, Value]) -> float:
        return -abs(float(p["x"]) - 0.3)

    first = walk(make_search(spec), 14, worth)
    again = make_search(spec)
    for number, parameters in enumerate(first):
        again.tell(ended(number, parameters), worth(parameters))
    again.tell(ended(14, {"x": 2.0, "y": 0.0, "k": "a"}), 1.0)  # outside: of a study with other domains
    again.tell(ended(15, {"x": 0.5, "y": 0.5, "k": "b"}, TrialState.EARLY_STOPPED), 0.1)
    again.tell(ended(16, {"x": 0.6, "y": 0.5, "k": "b"}, TrialState.FAILED), None)
    more = walk(again, 14, worth, first=17)
    assert len(more) == 14
    assert not [p for p in more if p in first]
    if algorithm in ("random", "sobol", "hyperband"):  # their points follow from the number alone
        assert more == walk(make_search(spec), 31)[17:]


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_trials_at_the_same_time_failures_and_early_stops(studies, algorithm: str) -> None:
    domains = COUNTABLE if algorithm == "grid" else DOMAINS
    search = make_search(spec_of(studies, algorithm, domains))
    running: dict[int, dict[str, Value]] = {}
    for number in range(40):
        parameters = search.ask(number)
        assert parameters is not None
        running[number] = parameters
        if len(running) == 4:
            done, values = running.popitem() if number % 2 else (min(running), running.pop(min(running)))
            state = (TrialState.SUCCEEDED, TrialState.FAILED, TrialState.EARLY_STOPPED, TrialState.KILLED)[done % 4]
            known = state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)
            search.tell(ended(done, values, state), float(done) if known else None)


def bowl(p: dict[str, Value]) -> float:
    miss = (float(p["x"]) - 0.7) ** 2 + (float(p["y"]) - 0.2) ** 2 + (math.log10(float(p["rate"])) + 2) ** 2 / 4
    return miss + 0.2 * (p["kind"] != "b") + 0.02 * abs(int(p["n"]) - 5)


BOWL = {
    "x": Double(0, 1),
    "y": Double(0, 1),
    "rate": Double(1e-4, 1, log=True),
    "kind": Categorical(["a", "b"]),
    "n": Integer(1, 12),
}


def regret(studies, algorithm: str, sign: int) -> float:
    """Median over seeds of the best value found in 80 trials; 0 is the optimum."""
    direction = Direction.MINIMIZE if sign > 0 else Direction.MAXIMIZE
    found = []
    for seed in range(5):
        search = make_search(studies.spec(algorithm=algorithm, domains=BOWL, seed=seed, direction=direction))
        found.append(min(bowl(p) for p in walk(search, 80, lambda p: sign * bowl(p))))
    return statistics.median(found)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("algorithm", ["tpe", "multivariate-tpe", "cmaes", "bayesianoptimization"])
def test_learning_beats_chance(studies, algorithm: str, sign: int) -> None:
    assert regret(studies, algorithm, sign) < 0.8 * regret(studies, "random", sign)


@pytest.mark.parametrize("acquisition", ["EI", "PI", "LCB"])
def test_bayesian_optimisation_comes_close(studies, acquisition: str) -> None:
    settings = {"acq_func": acquisition, "n_initial_points": "8"}
    spec = studies.spec(
        algorithm="bayesianoptimization", algorithm_settings=settings, domains=BOWL, direction=Direction.MINIMIZE
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
    search = make_search(studies.spec(algorithm="bayesianoptimization", domains=BOWL))
    for number in range(500):
        parameters = make_search(studies.spec(domains=BOWL)).ask(number)
        search.tell(ended(number, parameters), -bowl(parameters))
    assert len(search._known) == 150
    assert max(value for _, value in search._known) == pytest.approx(
        max(-bowl(make_search(studies.spec(domains=BOWL)).ask(n)) for n in range(500))
    )
    assert search.ask(500) is not None

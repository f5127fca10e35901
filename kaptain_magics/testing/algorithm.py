"""What every search algorithm does.

An instance is a subclass that names the algorithm::

    class TestNsga2(AlgorithmSuite):
        algorithm = "turbo"
        learns = True
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from kaptain_magics.core.algorithm_names import Algorithm
from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Double, Integer, Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import JobSpec, StudySpec
from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.errors import AlgorithmError, DomainError
from kaptain_magics.tuning.algorithms import definition_of, make_search
from kaptain_magics.tuning.checks import check_study
from kaptain_magics.tuning.search import Search

DOMAINS: Mapping[str, AnyDomain] = {
    "double": Double(-2.0, 3.0),
    "log": Double(1e-4, 1e-1, log=True),
    "step": Double(0.1, 0.9, step=0.2),
    "integer": Integer(-3, 12),
    "log_integer": Integer(1, 512, log=True),
    "step_integer": Integer(8, 64, step=8),
    "discrete": Discrete(("5", "10", "20")),
    "pinned": Discrete((7,)),
    "categorical": Categorical(("rbf", "linear", "poly")),
    "mixed": Categorical((1, 1.0, "1")),
}
_NUMBERS: Mapping[str, AnyDomain] = {"n": Integer(1, 9), "m": Integer(1, 9)}  # enough for those that need two numbers
BOWL_DOMAINS: Mapping[str, AnyDomain] = {
    "x": Double(0, 1),
    "y": Double(0, 1),
    "rate": Double(1e-4, 1, log=True),
    "kind": Categorical(("a", "b")),
    "n": Integer(1, 12),
}
_ENDS = (TrialState.SUCCEEDED, TrialState.FAILED, TrialState.EARLY_STOPPED, TrialState.KILLED)
Objective = Callable[[Mapping[str, Value]], float]


def study(algorithm: str, domains: Mapping[str, AnyDomain], **changes: Any) -> StudySpec:
    """Return a study with these domains; ``changes`` are other fields of it."""
    job = JobSpec(
        name="",
        run_id="r",
        model_id="dev/m",
        script=Script(name="training.py", source=""),
        framework=ModelFramework.PYTHON,
    )
    fields = {"objectives": ("accuracy",), "trials": 16, "seed": 1, **changes}
    return StudySpec(
        name="m-tune-0174088b",
        run_id="r",
        model_id="dev/m",
        job=job,
        algorithm=algorithm,
        domains=dict(domains),
        **fields,
    )


def ended(number: int, parameters: dict[str, Value], state: TrialState = TrialState.SUCCEEDED) -> TrialChanged:
    """Return the event of a trial that has ended."""
    return TrialChanged(number=number, name=f"t{number}", state=state, parameters=parameters)


def walk(search: Search, count: int, objective: Objective = lambda _: 0.0, first: int = 0) -> list[dict[str, Value]]:
    """Run up to ``count`` trials one after another from number ``first``; returns their hyperparameters."""
    points = []
    for number in range(first, first + count):
        parameters = search.ask(number)
        if parameters is None:
            break
        points.append(parameters)
        search.tell(ended(number, parameters), objective(parameters))
    return points


def bowl(parameters: Mapping[str, Value]) -> float:
    """Return how far a point of the test problem is from its optimum, 0."""
    miss = (float(parameters["x"]) - 0.7) ** 2 + (float(parameters["y"]) - 0.2) ** 2
    miss += (math.log10(float(parameters["rate"])) + 2) ** 2 / 4
    return miss + 0.2 * (parameters["kind"] != "b") + 0.02 * abs(int(parameters["n"]) - 5)


class AlgorithmSuite:
    """The suite.

    Attributes:
        algorithm: Its name.
        settings: Settings that it cannot do without.
        refuses: Names in ``DOMAINS`` that it cannot search: it must say so before anything starts.
        learns: Whether it is to do better than random search.
        draws: Whether its points depend on the seed.
        finite: Whether it ends by itself, without a proposal twice.
    """

    algorithm: ClassVar[str]
    settings: ClassVar[Mapping[str, str]] = {}
    refuses: ClassVar[tuple[str, ...]] = ()
    learns: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    finite: ClassVar[bool] = False

    def study(self, domains: Mapping[str, AnyDomain], **changes: Any) -> StudySpec:
        return study(self.algorithm, domains, **{"algorithm_settings": dict(self.settings), **changes})

    def search(self, domains: Mapping[str, AnyDomain], **changes: Any) -> Search:
        spec = self.study(domains, **changes)
        check_study(spec)
        return make_search(spec)

    @property
    def domains(self) -> dict[str, AnyDomain]:
        """Every kind of domain that it can search."""
        return {name: domain for name, domain in DOMAINS.items() if name not in self.refuses}

    def test_it_is_found_by_its_name(self) -> None:
        assert Algorithm.of(self.algorithm) in Algorithm.names()
        assert definition_of(Algorithm.of(self.algorithm)).factory.count(":") == 1

    @pytest.mark.parametrize("name", [*DOMAINS, "all"])
    def test_values_lie_in_their_domains(self, name: str) -> None:
        domains = self.domains if name == "all" else {**_NUMBERS, name: DOMAINS[name]}
        if name in self.refuses:
            with pytest.raises((DomainError, AlgorithmError)) as raised:
                check_study(self.study(domains))
            assert raised.value.hint
            return
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing that a library thinks of its own parts reaches the user
            points = walk(self.search(domains), 25, lambda p: float(len(str(p)) % 7))
        assert points
        for point in points:
            assert list(point) == list(domains)  # in the order in which they were named
            assert all(domains[key].contains(value) for key, value in point.items())
            assert all(type(value) is int for key, value in point.items() if "integer" in key)
            assert all(type(value) is str for key, value in point.items() if key in ("discrete", "categorical"))

    def test_domains_of_one_value(self) -> None:
        assert walk(self.search({**_NUMBERS, "pinned": Discrete((7,))}), 3)[0]["pinned"] == 7

    def test_a_setting_that_it_does_not_know_is_refused(self) -> None:
        with pytest.raises(AlgorithmError, match="has no setting 'no_such_setting'") as raised:
            check_study(self.study(_NUMBERS, algorithm_settings={**self.settings, "no_such_setting": "1"}))
        assert raised.value.hint

    @pytest.mark.parametrize("direction", list(Direction))
    def test_a_seed_gives_the_same_points(self, direction: Direction) -> None:
        def objective(p: Mapping[str, Value]) -> float:
            return float(p["integer"]) + float(p["discrete"])

        first, second = (self.search(self.domains, direction=direction) for _ in range(2))
        assert walk(first, 30, objective) == walk(second, 30, objective)

    def test_another_seed_gives_other_points(self) -> None:
        one, other = (walk(self.search(self.domains, seed=seed), 10) for seed in (1, 2))
        assert (one != other) is self.draws

    def test_a_resumed_study_goes_on_with_other_points(self) -> None:
        domains: dict[str, AnyDomain] = {"n": Integer(0, 99), "m": Integer(0, 99), "k": Categorical(("a", "b"))}

        def objective(p: Mapping[str, Value]) -> float:
            return -abs(float(p["n"]) - 30)

        first = walk(self.search(domains), 14, objective)
        resumed = self.search(domains)
        for number, parameters in enumerate(first):
            resumed.tell(ended(number, parameters), objective(parameters))
        resumed.tell(ended(14, {"n": 200, "m": 0, "k": "a"}), 1.0)  # outside: of a study with other domains
        resumed.tell(ended(15, {"n": 50, "m": 50, "k": "b"}, TrialState.EARLY_STOPPED), 0.1)
        resumed.tell(ended(16, {"n": 60, "m": 50, "k": "b"}, TrialState.FAILED), None)
        more = walk(resumed, 14, objective, first=17)
        assert len(more) == 14
        repeated = sum(point in first for point in more)
        assert repeated <= (7 if self.learns else 0)  # who learns may look at a good point again
        assert len({str(point) for point in more}) > 4

    def test_trials_at_the_same_time_failures_and_early_stops(self) -> None:
        search = self.search(self.domains)
        running: dict[int, dict[str, Value]] = {}
        for number in range(40):
            parameters = search.ask(number)
            assert parameters is not None
            running[number] = parameters
            if len(running) == 4:
                done = max(running) if number % 2 else min(running)
                state = _ENDS[done % 4]
                measured = state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)
                search.tell(ended(done, running.pop(done), state), float(done) if measured else None)

    def test_it_ends_when_everything_was_tried(self) -> None:
        search = self.search({"n": Integer(1, 3), "m": Integer(1, 2)})
        points = walk(search, 20)
        if not self.finite:
            assert len(points) == 20
            return
        assert len({str(point) for point in points}) == len(points) == 6
        assert search.ask(20) is None

    @pytest.mark.parametrize("direction", list(Direction))
    def test_it_goes_the_objectives_way(self, direction: Direction) -> None:
        if not self.learns:
            pytest.skip("does not learn")
        assert self._regret(self.algorithm, direction) < 0.8 * self._regret("random", direction)

    def _regret(self, algorithm: str, direction: Direction) -> float:
        """Return the median over seeds of the best value found in 80 trials; 0 is the optimum."""
        sign = 1 if direction is Direction.MINIMIZE else -1
        settings = dict(self.settings) if algorithm == self.algorithm else {}
        best = []
        for seed in range(5):
            spec = study(algorithm, BOWL_DOMAINS, seed=seed, direction=direction, algorithm_settings=settings)
            best.append(min(bowl(p) for p in walk(make_search(spec), 80, lambda p: sign * bowl(p))))
        return statistics.median(best)

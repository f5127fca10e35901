"""The best trials: one of one objective, of several the Pareto set."""

from __future__ import annotations

import itertools
import random

from kaptain_magics.core.events import MetricSummary, TrialChanged
from kaptain_magics.core.objectives import read_objectives
from kaptain_magics.core.pareto import BestTrials, dominates
from kaptain_magics.core.states import TrialState


def trial(number: int, state: TrialState = TrialState.SUCCEEDED, **metrics: float) -> TrialChanged:
    summaries = {name: MetricSummary.of(value) for name, value in metrics.items()}
    return TrialChanged(number=number, name=f"t{number}", state=state, parameters={}, metrics=summaries)


def test_of_one_objective_the_first_of_the_best() -> None:
    best = BestTrials(read_objectives("loss"))
    assert [best.take(trial(n, loss=v)) for n, v in enumerate([3.0, 2.0, 2.0, 4.0])] == [True, True, False, False]
    assert [t.number for t in best.trials] == [1]
    assert not best.take(trial(9, TrialState.FAILED, loss=0.0))
    assert not best.take(trial(10, accuracy=1.0))


def test_of_several_those_that_nothing_dominates() -> None:
    objectives = read_objectives(["accuracy", "latency"])
    rng = random.Random(1)
    trials = [trial(n, accuracy=rng.randrange(9), latency=rng.randrange(9)) for n in range(200)]
    kept = {t.number for t in BestTrials.of([*trials, *trials], objectives).trials}
    points = {t.number: (t.metrics["accuracy"].latest, t.metrics["latency"].latest) for t in trials}
    for one, other in itertools.product(points, points):
        if other in kept:
            assert not dominates(points[one], points[other], objectives)
    for number in points.keys() - kept:
        assert any(dominates(points[k], points[number], objectives) for k in kept)
    best = BestTrials.of(trials, objectives).best
    assert best is not None
    assert points[best.number][0] == max(accuracy for accuracy, _ in points.values())

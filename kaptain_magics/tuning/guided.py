"""Searches that learn from ended trials: Optuna's samplers behind ``Search``.

Optuna sees the axes of the space only (numbers from 0 to 1, indices) and keeps its study in memory: what must last is
in the run's events.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, Trial, create_trial

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.objectives import Objective
from kaptain_magics.core.pareto import values_of
from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.tuning.algorithms import POPULATION
from kaptain_magics.tuning.space import Axis, ContinuousAxis, Space

optuna.logging.set_verbosity(optuna.logging.ERROR)  # every study in this process is ours

_WARM_START = 10  # earlier trials from which a covariance can start: its best tenth is used
_STATES = {
    TrialState.SUCCEEDED: optuna.trial.TrialState.COMPLETE,
    TrialState.EARLY_STOPPED: optuna.trial.TrialState.PRUNED,
}


def new_study(directions: Sequence[Direction], sampler: BaseSampler, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """Return a study of Optuna in memory."""
    return optuna.create_study(directions=[*map(str, directions)], sampler=sampler, pruner=pruner, study_name="kaptain")


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, ContinuousAxis):
        return FloatDistribution(0.0, 1.0)
    if axis.ordered:
        return IntDistribution(0, len(axis.values) - 1)
    return CategoricalDistribution(range(len(axis.values)))


def _suggested(trial: Trial, name: str, axis: Axis) -> float:
    position: float
    if isinstance(axis, ContinuousAxis):
        position = trial.suggest_float(name, 0.0, 1.0)
    elif axis.ordered:
        position = trial.suggest_int(name, 0, len(axis.values) - 1)
    else:
        position = trial.suggest_categorical(name, range(len(axis.values)))
    return position


class OptunaSearch:
    """One of Optuna's samplers.

    Args:
        space: The search space.
        direction: Of the objective.
        sampler: Makes the sampler from its seed and the earlier trials, before the first question.
        seed: Seed of the sampler.
        objectives: All objectives, where they decide together; then ``direction`` is not used.
    """

    def __init__(
        self,
        space: Space,
        direction: Direction,
        sampler: Callable[[int, list[FrozenTrial]], BaseSampler],
        seed: int,
        objectives: Sequence[Objective] = (),
    ) -> None:
        self._space, self._sampler, self._seed = space, sampler, seed
        self._objectives = objectives
        self._directions = [o.direction for o in objectives] or [direction]
        self._distributions = {name: _distribution(axis) for name, axis in space.axes.items()}
        self._study: optuna.Study | None = None
        self._running: dict[int, Trial] = {}
        self._earlier: list[FrozenTrial] = []

    def ask(self, number: int) -> dict[str, Value] | None:
        """Return the hyperparameters of trial ``number``."""
        if self._study is None:
            self._study = self._open(number)
        if self._space.conditional:
            return self._ask_in_order(number, self._study)
        trial = self._running[number] = self._study.ask(self._distributions)
        return self._space.values(trial.params)

    def _ask_in_order(self, number: int, study: optuna.Study) -> dict[str, Value]:
        """Sample one hyperparameter after another, and only those whose conditions hold."""
        trial = self._running[number] = study.ask()
        values: dict[str, Value] = {}
        for name in self._space.order:
            if self._space.is_active(name, values):
                axis = self._space.axes.get(name)
                values[name] = self._space.value(name, 0.0 if axis is None else _suggested(trial, name, axis))
        return self._space.values(trial.params)

    def tell(self, trial: TrialChanged, value: float | None) -> None:
        """Give the sampler an ended trial; one that it did not propose is kept as an earlier one."""
        values: Sequence[float] | None = None if value is None else [value]
        if self._objectives and value is not None:
            values = values_of(trial, self._objectives)
        state = optuna.trial.TrialState.FAIL if values is None else _STATES[trial.state]
        proposed = self._running.pop(trial.number, None)
        if proposed is None:
            self._remember(trial, state, values)
        elif self._study is not None:
            if state == optuna.trial.TrialState.PRUNED and values is not None:
                proposed.report(values[0], 0)
                values = None
            self._study.tell(proposed, values, state)

    def _remember(self, trial: TrialChanged, state: optuna.trial.TrialState, values: Sequence[float] | None) -> None:
        point = self._space.point(trial.parameters)
        if point is None or values is None:
            return
        known = {name: place for name, place in point.items() if name in trial.parameters}
        steps = {0: values[0]} if state == optuna.trial.TrialState.PRUNED else {}
        self._earlier.append(
            create_trial(
                state=state,
                values=values,
                params=known,
                distributions={name: self._distributions[name] for name in known},
                intermediate_values=steps,
            )
        )

    def _open(self, number: int) -> optuna.Study:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parts of Optuna that call themselves experimental
            sampler = self._sampler(self._seed + number, self._earlier)  # a resumed study must not draw the same again
            study = new_study(self._directions, sampler, optuna.pruners.NopPruner())
        study.add_trials(self._earlier)
        return study


def tpe(
    space: Space, direction: Direction, *, seed: int, objectives: Sequence[Objective] = (), **settings: Any
) -> OptunaSearch:
    """Tree-structured Parzen estimator, each hyperparameter by itself."""

    def sampler(first: int, _: list[FrozenTrial]) -> BaseSampler:
        return TPESampler(seed=first, multivariate=False, **settings)

    return OptunaSearch(space, direction, sampler, seed, objectives)


def multivariate_tpe(
    space: Space, direction: Direction, *, seed: int, objectives: Sequence[Objective] = (), **settings: Any
) -> OptunaSearch:
    """Tree-structured Parzen estimator over all hyperparameters at once."""

    def sampler(first: int, _: list[FrozenTrial]) -> BaseSampler:
        return TPESampler(seed=first, multivariate=True, group=bool(space.conditional), **settings)

    return OptunaSearch(space, direction, sampler, seed, objectives)


def nsga2(
    space: Space,
    direction: Direction,
    *,
    seed: int,
    objectives: Sequence[Objective] = (),
    population_size: int = POPULATION,
    **settings: Any,
) -> OptunaSearch:
    """Non-dominated sorting genetic algorithm II; its first generation is random."""

    def sampler(first: int, _: list[FrozenTrial]) -> BaseSampler:
        return NSGAIISampler(seed=first, population_size=population_size, **settings)

    return OptunaSearch(space, direction, sampler, seed, objectives)


def cmaes(space: Space, direction: Direction, *, seed: int, sigma: float | None = None) -> OptunaSearch:
    """Covariance matrix adaptation; draws hyperparameters without an order at random.

    Args:
        space: The search space.
        direction: Of the objective.
        seed: Seed of the sampler.
        sigma: First step size, as a part of each axis; Optuna's default is 1/6.
    """

    def sampler(first: int, earlier: list[FrozenTrial]) -> BaseSampler:
        source = [_ordered(t) for t in earlier if t.state == optuna.trial.TrialState.COMPLETE]
        start: dict[str, Any] = {}
        if sigma is not None:
            start["sigma0"] = sigma
        elif len(source) >= _WARM_START:
            start["source_trials"] = source
        return CmaEsSampler(seed=first, warn_independent_sampling=False, **start)

    return OptunaSearch(space, direction, sampler, seed)


def _ordered(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial over the axes that a covariance can be about."""
    axes = {n: d for n, d in trial.distributions.items() if not isinstance(d, CategoricalDistribution)}
    return create_trial(value=trial.value, params={n: trial.params[n] for n in axes}, distributions=axes)

"""Stopping rules on intermediate values: Optuna's pruners behind ``Stopper``."""

from __future__ import annotations

import optuna
from optuna.trial import Trial

from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.tuning.guided import new_study


class OptunaStopper:
    """One of Optuna's pruners.

    Args:
        direction: Of the objective.
        pruner: The pruner.
    """

    def __init__(self, direction: Direction, pruner: optuna.pruners.BasePruner) -> None:
        self._study = new_study([direction], optuna.samplers.RandomSampler(), pruner)
        self._trials: dict[int, Trial] = {}

    def report(self, number: int, step: int, value: float) -> bool:
        """Take note of an objective value at a step; returns whether to stop the trial now."""
        if number not in self._trials:
            self._trials[number] = self._study.ask()
        trial = self._trials[number]
        trial.report(value, step)
        return bool(trial.should_prune())

    def end(self, number: int, state: TrialState, value: float | None) -> None:
        """Take note of an ended trial."""
        trial = self._trials.pop(number, None)
        if trial is None:
            return
        if state is TrialState.SUCCEEDED and value is not None:
            self._study.tell(trial, value)
        elif state is TrialState.EARLY_STOPPED:
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)


def median(direction: Direction, *, trials: int = 3, steps: int = 4) -> OptunaStopper:
    """Stop a trial whose best value so far is worse than the median of the others at the same step.

    Args:
        direction: Of the objective.
        trials: Succeeded trials before any is stopped.
        steps: Steps of a trial before it may be stopped.
    """
    return OptunaStopper(direction, optuna.pruners.MedianPruner(n_startup_trials=trials, n_warmup_steps=steps))


def halving(direction: Direction, *, budget: int, eta: int) -> OptunaStopper:
    """Stop all but the best of every ``eta`` trials at steps 1, eta, eta² ..., in brackets of different patience.

    Args:
        direction: Of the objective.
        budget: Greatest number of steps.
        eta: Of so many trials one goes on.
    """
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=budget, reduction_factor=eta)
    return OptunaStopper(direction, pruner)

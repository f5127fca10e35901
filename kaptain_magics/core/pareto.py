"""The best trials of a study: one of one objective, of several the Pareto set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.objectives import Objective
from kaptain_magics.core.states import TrialState


class BestTrials:
    """The best of the trials that it has taken.

    Of one objective that is the first one with the best value. Of several it is the Pareto set: the trials that no
    other one is better than in an objective without being worse in another.

    Args:
        objectives: What decides, the most important one first.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = objectives
        self._kept: dict[int, tuple[TrialChanged, tuple[float, ...]]] = {}

    @classmethod
    def of(cls, trials: Iterable[TrialChanged], objectives: Sequence[Objective]) -> BestTrials:
        """Return the best of these trials."""
        best = cls(objectives)
        for trial in trials:
            best.take(trial)
        return best

    def take(self, trial: TrialChanged) -> bool:
        """Take a trial; returns whether it is among the best now. The same one twice does no harm."""
        values = values_of(trial, self._objectives)
        if values is None:
            return False
        others = {number: kept for number, kept in self._kept.items() if number != trial.number}
        if any(not self._beats(values, theirs) for _, theirs in others.values()):
            return False
        self._kept = {n: (t, v) for n, (t, v) in others.items() if not dominates(values, v, self._objectives)}
        self._kept[trial.number] = (trial, values)
        return True

    def _beats(self, values: Sequence[float], others: Sequence[float]) -> bool:
        """Whether values may stand beside, or of one objective in the place of, those of another trial."""
        if len(self._objectives) == 1:
            return dominates(values, others, self._objectives)
        return not dominates(others, values, self._objectives)

    @property
    def trials(self) -> list[TrialChanged]:
        """The best trials, by number."""
        return [self._kept[number][0] for number in sorted(self._kept)]

    @property
    def best(self) -> TrialChanged | None:
        """The one that is best in the first objective; the first of several."""
        best: TrialChanged | None = None
        first = self._objectives[0]
        for trial in self.trials:
            value, before = trial.latest(first.name), None if best is None else best.latest(first.name)
            if value is not None and (before is None or first.direction.better(value, before)):
                best = trial
        return best


def values_of(trial: TrialChanged, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Return a succeeded trial's values of all objectives; ``None`` where it lacks one."""
    values = tuple(value for o in objectives if (value := trial.latest(o.name)) is not None)
    return values if trial.state is TrialState.SUCCEEDED and len(values) == len(objectives) else None


def dominates(one: Sequence[float], other: Sequence[float], objectives: Sequence[Objective]) -> bool:
    """Whether values are better than others in one objective and worse in none."""
    pairs = list(zip(one, other, objectives, strict=True))
    return any(o.direction.better(a, b) for a, b, o in pairs) and not any(o.direction.better(b, a) for a, b, o in pairs)

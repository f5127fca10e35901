"""Several objectives at once: which trials are not worse than another one in everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.objectives import Objective
from kaptain_magics.core.states import TrialState


def values_of(trial: TrialChanged, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Return a succeeded trial's values of all objectives; ``None`` where it lacks one."""
    values = tuple(value for o in objectives if (value := trial.latest(o.name)) is not None)
    return values if trial.state is TrialState.SUCCEEDED and len(values) == len(objectives) else None


def dominates(one: Sequence[float], other: Sequence[float], objectives: Sequence[Objective]) -> bool:
    """Whether values are better than others in one objective and worse in none."""
    pairs = list(zip(one, other, objectives, strict=True))
    return any(o.direction.better(a, b) for a, b, o in pairs) and not any(o.direction.better(b, a) for a, b, o in pairs)


def front(trials: Iterable[TrialChanged], objectives: Sequence[Objective]) -> list[TrialChanged]:
    """Return the Pareto set: the trials that no other one dominates, in their order."""
    kept: list[tuple[TrialChanged, tuple[float, ...]]] = []
    for trial in trials:
        values = values_of(trial, objectives)
        if values is None or any(dominates(theirs, values, objectives) for _, theirs in kept):
            continue
        kept = [(t, v) for t, v in kept if not dominates(values, v, objectives)]
        kept.append((trial, values))
    return [trial for trial, _ in kept]

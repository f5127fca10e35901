"""Objectives: which metric decides, and whether it is to grow or to shrink. The one home of that rule.

A stated direction always wins; otherwise it follows from the words of the metric's name, and the study's first line
says which one was taken and how to state the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kaptain_magics.core.states import Direction
from kaptain_magics.errors import ObjectiveError

_WORD = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
_SHRINKING = """
loss losses error errors err mse rmse nrmse mae mape smape wape mase msle rmsle mspe rmspe medae sse rss l1 l2
logloss nll bce cce xent crossentropy hinge huber pinball deviance brier ece kl kld divergence
perplexity ppl bpc bpb wer cer eer hter fid kid lpips hamming misclassification mislabeled false
fpr fnr far frr aic bic chamfer hausdorff wasserstein regret cost penalty
time latency duration runtime elapsed seconds secs ms
"""
_LOWER_IS_BETTER = frozenset(_SHRINKING.split())
_NEGATED = frozenset({"neg", "negative", "negated"})  # scikit-learn's scorers: neg_log_loss grows
_HIGHER_IS_BETTER = frozenset({"explained", "d2", "gain", "improvement", "reduction"})  # whatever else the name says
_SUFFIXES = {
    **dict.fromkeys(("min", "minimize", "minimise"), Direction.MINIMIZE),
    **dict.fromkeys(("max", "maximize", "maximise"), Direction.MAXIMIZE),
}


class Objective(msgspec.Struct, frozen=True):
    """A metric that a study follows.

    Attributes:
        name: The metric's name.
        direction: Whether it is maximized or minimized.
    """

    name: str
    direction: Direction


def infer(name: str) -> Direction:
    """Return the direction that the words of a metric's name stand for.

    ``val_loss``, ``RMSE`` and ``error_rate`` are minimized; ``neg_log_loss`` and everything else are maximized.

    Example:
        >>> infer("val_loss"), infer("accuracy")
        (<Direction.MINIMIZE: 'minimize'>, <Direction.MAXIMIZE: 'maximize'>)
    """
    words = {word.lower() for word in _WORD.findall(name)}
    negated = bool(words & _NEGATED)
    if "likelihood" in words:
        return Direction.MINIMIZE if negated else Direction.MAXIMIZE
    shrinks = words & _LOWER_IS_BETTER or words >= {"cross", "entropy"}
    if negated or words & _HIGHER_IS_BETTER or not shrinks:
        return Direction.MAXIMIZE
    return Direction.MINIMIZE


def split_direction(text: str) -> tuple[str, Direction | None]:
    """Split ``loss:max`` into the metric's name and the direction, where one is stated."""
    name, colon, suffix = text.strip().rpartition(":")
    direction = _SUFFIXES.get(suffix.strip().lower()) if colon else None
    return (name.strip(), direction) if direction is not None else (text.strip(), None)


def read_objectives(texts: Sequence[str] | str, direction: Direction | None = None) -> tuple[Objective, ...]:
    """Return the objectives of a study, the deciding one first.

    Args:
        texts: Metrics, each with or without a stated direction (``loss:min``).
        direction: The first one's direction, where it was stated apart from its name.

    Raises:
        ObjectiveError: There is none, one is named twice, or two directions are stated for one.
    """
    texts = (texts,) if isinstance(texts, str) else texts
    objectives: list[Objective] = []
    for text in texts:
        name, stated = split_direction(str(text))
        if not name:
            raise ObjectiveError("an objective has no name", "name the metric to optimize: --objective accuracy")
        if not objectives and direction is not None:
            if stated not in (None, direction):
                raise ObjectiveError(f"{name} cannot be both {stated}d and {direction}d", "state one direction")
            stated = direction
        if any(name == other.name for other in objectives):
            raise ObjectiveError(f"objective {name} is named twice", "name each metric once")
        objectives.append(Objective(name, stated or infer(name)))
    if not objectives:
        raise ObjectiveError("no objective is named", "name the metric to optimize: --objective accuracy")
    return tuple(objectives)


def describe_objectives(objectives: Sequence[Objective], pareto: bool = False) -> str:
    """Return one line that says what a study does with its objectives, and how to change that.

    Args:
        objectives: Its objectives.
        pareto: Whether they are optimized together.
    """
    first, *others = objectives
    if pareto:
        both = " and ".join(f"{o.direction}s {o.name}" for o in objectives)
        return f"The study {both}, together: the trials that no other one beats in all of them are its Pareto set."
    if first.direction is infer(first.name):
        other = "max" if first.direction is Direction.MINIMIZE else "min"
        why = f" (as its name suggests; {first.name}:{other} would {_SUFFIXES[other]} it)"
    else:
        why = " (as asked)"
    text = f"The study {first.direction}s {first.name}{why}."
    if others:
        text += f" Only reported, not optimized: {_listed(others)}; --pareto optimizes all of them together."
    return text


def better(direction: Direction) -> str:
    """Return ``lower is better`` or ``higher is better``."""
    return "lower is better" if direction is Direction.MINIMIZE else "higher is better"


def _listed(objectives: Iterable[Objective]) -> str:
    return ", ".join(f"{o.name} ({better(o.direction)})" for o in objectives)


def later_directions(objectives: Sequence[Objective]) -> Mapping[str, Direction]:
    """Return the directions of the objectives behind the first, by name."""
    return {o.name: o.direction for o in objectives[1:]}

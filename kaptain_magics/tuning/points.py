"""Searches in which a trial's point follows from its number alone.

They need no memory of the study, cost the same at any number of trials, and give the same points in the same order
whatever runs at the same time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.tuning.space import DiscreteAxis, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK = 64  # points of a sequence that SciPy makes at a time: one by one each takes 3 µs instead of 0.05


class RandomSearch:
    """Independent draws.

    Args:
        space: The search space.
        direction: Not used.
        seed: Seed of the draws.
    """

    def __init__(self, space: Space, direction: Direction, *, seed: int) -> None:  # noqa: ARG002
        self._space, self._seed = space, seed

    def ask(self, number: int) -> dict[str, Value] | None:
        """Return the hyperparameters of trial ``number``."""
        return self._space.values(self._space.draw(random.Random(f"{self._seed}:{number}")))

    def tell(self, trial: TrialChanged, value: float | None) -> None:
        """Ignore it: a point follows from its number alone."""


class GridSearch:
    """Every combination once, in the order of nested loops; what an earlier study has finished is left out.

    Args:
        space: The search space; countable.
        direction: Not used.
        seed: Not used.
    """

    def __init__(self, space: Space, direction: Direction, *, seed: int) -> None:  # noqa: ARG002
        self._space = space
        self._axes = {n: a for n, a in space.axes.items() if isinstance(a, DiscreteAxis)}
        self._size = 1
        for axis in self._axes.values():
            self._size *= len(axis.values)
        self._next = 0
        self._given: set[int] = set()
        self._finished: set[int] = set()

    def ask(self, number: int) -> dict[str, Value] | None:  # noqa: ARG002 - the grid keeps its own index
        """Return the next combination that no earlier study has finished; ``None`` when all were given."""
        while self._next < self._size:
            index, self._next = self._next, self._next + 1
            point = self._point(index)
            if index not in self._finished and (not self._space.conditional or self._space.settled(point) == point):
                self._given.add(index)
                return self._space.values(point)
        return None

    def tell(self, trial: TrialChanged, value: float | None) -> None:  # noqa: ARG002
        """Leave an earlier study's combination out, unless its trial was killed."""
        point = self._space.point(trial.parameters)
        if point is None:
            return
        index = 0
        for name, axis in self._axes.items():
            index = index * len(axis.values) + int(point[name])
        if index in self._given:
            self._given.remove(index)
        elif trial.state is not TrialState.KILLED:
            self._finished.add(index)

    def _point(self, index: int) -> dict[str, float]:
        point: dict[str, float] = {}
        for name, axis in reversed(self._axes.items()):
            index, point[name] = divmod(index, len(axis.values))
        return point


class SobolSearch:
    """A scrambled Sobol sequence: covers the space more evenly than random draws.

    Args:
        space: The search space.
        direction: Not used.
        seed: Seed of the scrambling.
    """

    def __init__(self, space: Space, direction: Direction, *, seed: int) -> None:  # noqa: ARG002
        self._space, self._seed = space, seed
        self._first = 0
        self._points: NDArray[np.float64] | None = None
        self._engine: Any = None

    def ask(self, number: int) -> dict[str, Value] | None:
        """Return the hyperparameters of trial ``number``; numbers grow."""
        if not self._space.axes:
            return self._space.values({})
        if self._engine is None:
            from scipy.stats import qmc

            self._engine = qmc.Sobol(len(self._space.axes), scramble=True, seed=self._seed)
            if number:
                self._engine.fast_forward(number)
            self._first = number
        if self._points is None or number >= self._first + len(self._points):
            self._first += 0 if self._points is None else len(self._points)
            self._points = self._engine.random(_CHUNK)
        row = self._points[number - self._first]
        point = {
            name: min(int(u * len(axis.values)), len(axis.values) - 1) if isinstance(axis, DiscreteAxis) else float(u)
            for u, (name, axis) in zip(row, self._space.axes.items(), strict=True)
        }
        return self._space.values(point)

    def tell(self, trial: TrialChanged, value: float | None) -> None:
        """Ignore it: a point follows from its number alone."""

"""An algorithm as another distribution would bring it: a definition and a search in one file."""

from __future__ import annotations

import random

from kaptain_magics.core.algorithm_settings import above, whole
from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.states import Direction
from kaptain_magics.tuning.algorithms import AlgorithmDefinition
from kaptain_magics.tuning.space import DiscreteAxis, Space

TOY = AlgorithmDefinition(
    "toy_algorithm:HillClimber", {"random_state": whole("seed", 0), "reach": above("reach", 0)}, requires=("random",)
)


class HillClimber:
    """Steps away from the best point so far, by ``reach`` on every axis."""

    def __init__(self, space: Space, direction: Direction, *, seed: int, reach: float = 0.15) -> None:
        self._space, self._direction, self._seed, self._reach = space, direction, seed, reach
        self._best: tuple[float, dict[str, float]] | None = None

    def ask(self, number: int) -> dict[str, Value] | None:
        """Return the hyperparameters of trial ``number``."""
        rng = random.Random(f"{self._seed}:{number}")
        point = self._space.draw(rng)
        if self._best is not None and rng.random() < 0.7:
            for name, axis in self._space.axes.items():
                size = len(axis.values) - 1 if isinstance(axis, DiscreteAxis) else 1
                moved = min(max(self._best[1][name] + rng.gauss(0, self._reach) * size, 0), size)
                point[name] = round(moved) if isinstance(axis, DiscreteAxis) else moved
        return self._space.values(point)

    def tell(self, trial: TrialChanged, value: float | None) -> None:
        """Keep the best point."""
        point = self._space.point(trial.parameters)
        if value is None or point is None:
            return
        if self._best is None or self._direction.better(value, self._best[0]):
            self._best = value, point

"""Bayesian optimisation with a Gaussian process, in NumPy alone.

Optuna's ``GPSampler`` needs PyTorch, which takes longer to import than most studies take to run. The model is the usual
one: a Matérn 5/2 kernel with a length scale for each hyperparameter, fitted by its marginal likelihood, and an
acquisition function maximised over random candidates and around the best. Trials that still run count with the value
that the model expects of them, so that parallel trials keep apart.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2, 4.2 and 5.4; Snoek,
Larochelle and Adams, Practical Bayesian Optimization of Machine Learning Algorithms, 2012.
"""

from __future__ import annotations

import math
import random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.states import Direction
from kaptain_magics.tuning.space import DiscreteAxis, Point, Space

Array: TypeAlias = "NDArray[np.float64]"

_MAX_OBSERVATIONS = 150  # observations in the model: the best and the latest; its cost grows with their third power
_CANDIDATES = 1024  # random points, the best of which is refined
_ROUNDS = 4  # of candidates around the best, each round nearer
_LENGTHS = np.geomspace(0.05, 4.0, 7)  # length scales to begin with
_NOISES = (1e-6, 1e-3, 1e-1)  # variances of the noise to begin with
_XI = 0.01  # improvement that is worth a trial, in standard deviations
_KAPPA = 1.96  # width of the confidence bound
_erf = np.frompyfunc(math.erf, 1, 1)


class GaussianSearch:
    """Bayesian optimisation.

    Args:
        space: The search space.
        direction: Of the objective.
        seed: Seed of all draws.
        initial: Random trials before the model is used.
        acquisition: ``EI`` (expected improvement), ``PI`` (its probability) or ``LCB`` (confidence bound).
    """

    def __init__(
        self, space: Space, direction: Direction, *, seed: int, initial: int = 10, acquisition: str = "EI"
    ) -> None:
        self._space, self._seed, self._initial, self._acquisition = space, seed, initial, acquisition
        self._sign = 1.0 if direction is Direction.MAXIMIZE else -1.0
        self._grid = _UnitCube(space)
        self._observations: list[tuple[Array, float]] = []
        self._pending: dict[int, Array] = {}
        self._theta: Array | None = None
        self._threads = ThreadpoolController()

    def ask(self, number: int) -> dict[str, Value] | None:
        """Return the hyperparameters of trial ``number``."""
        rng = random.Random(f"{self._seed}:{number}")
        ready = len(self._observations) >= self._initial and self._space.axes
        point = None
        if ready:
            # Its matrices are too small to gain from threads, and the trials have the cores: on two cores with a load
            # of 10 the first fit of 150 observations took 19 s with OpenBLAS's threads, 0.9 s with one.
            with self._threads.limit(limits=1):
                point = self._propose(np.random.default_rng(rng.getrandbits(64)))
        if point is None:
            point = self._space.draw(rng)
        point = self._space.settled(point)
        self._pending[number] = self._grid.row(point)
        return self._space.values(point)

    def tell(self, trial: TrialChanged, value: float | None) -> None:
        """Add a trial's value as an observation; ``None``, of a trial that failed, only ends its waiting."""
        row = self._pending.pop(trial.number, None)
        if row is None and (point := self._space.point(trial.parameters)) is not None:
            row = self._grid.row(point)
        if row is None or value is None:
            return
        self._observations.append((row, self._sign * value))
        if len(self._observations) > _MAX_OBSERVATIONS:
            # the worst of the older half goes
            del self._observations[min(range(_MAX_OBSERVATIONS // 2), key=lambda k: self._observations[k][1])]

    def _propose(self, rng: np.random.Generator) -> Point | None:
        """Return the point of greatest acquisition, or ``None`` where all values are the same."""
        rows = np.array([row for row, _ in self._observations])
        values = np.array([value for _, value in self._observations])
        values /= np.abs(values).max() or 1.0
        spread = float(values.std())
        if not 0.0 < spread < math.inf:
            return None
        y = (values - values.mean()) / spread
        model = self._fit(self._grid.features(rows), y)
        if self._pending:
            model = model.with_expected(self._grid.features(np.array(list(self._pending.values()))))
        goal = float(y.max())
        best = self._best_of(model, goal, rng.random((_CANDIDATES, rows.shape[1])))
        width = 0.1
        for _ in range(_ROUNDS):
            around = np.repeat(np.vstack([rows[np.argsort(y)[-3:]], best]), 50, axis=0)
            near = np.clip(around + rng.normal(0.0, width, around.shape), 0.0, 1.0)
            best, width = self._best_of(model, goal, np.vstack([near, best])), width / 3
        return self._grid.point(best)

    def _best_of(self, model: _Process, goal: float, rows: Array) -> Array:
        rows = self._grid.snap(rows)
        mean, deviation = model.predict(self._grid.features(rows))
        chosen: Array = rows[int(np.argmax(_acquire(self._acquisition, mean - goal, deviation)))]
        return chosen

    def _fit(self, x: Array, y: Array) -> _Process:
        """Return the model with the likeliest length scales and noise.

        The likelihood has several maxima and no gradient here (SciPy's optimisers are not in the base installation),
        but few parameters, all on logarithmic axes. So the first fit begins with the best of 7 × 3 common values, and a
        coordinate search walks from there: a step up and down on every axis, from e to the power of 1, halved when a
        round gains less than 0.1, which no acquisition can tell apart. Later fits begin where the last one ended with
        a smaller step, since one more observation moves the maximum little: 14 models instead of 370 at 150
        observations and five axes, 18 ms instead of 180.
        """
        size = len(self._grid.names) + 1
        starts = [np.log(np.append(np.full(size - 1, length), n)) for length in _LENGTHS for n in _NOISES]
        step = 1.0
        if self._theta is not None:
            starts, step = [self._theta], 0.3
        best = max((_Process(x, y, theta, self._grid.columns) for theta in starts), key=lambda m: m.likelihood)
        while step > 0.2:
            before = best.likelihood
            for k in range(size):
                for move in (-step, step):
                    tried = _Process(x, y, best.theta + move * np.eye(size)[k], self._grid.columns)
                    best = tried if tried.likelihood > best.likelihood else best
            if best.likelihood < before + 0.1:
                step /= 2
        self._theta = best.theta
        return best


class _UnitCube:
    """The space as rows of numbers from 0 to 1, a column an axis, and as features that the kernel can compare.

    Attributes:
        names: The axes' names by column.
        columns: The axis of every feature: a choice without an order has a feature for each of its values.
    """

    def __init__(self, space: Space) -> None:
        self.names = tuple(space.axes)
        axes = space.axes.values()
        self._sizes = np.array([len(a.values) if isinstance(a, DiscreteAxis) else 0 for a in axes], dtype=float)
        self._kinds = [isinstance(a, DiscreteAxis) and not a.ordered for a in axes]
        widths = [int(n) if kind else 1 for n, kind in zip(self._sizes, self._kinds, strict=True)]
        self.columns: Array = np.repeat(np.arange(len(widths)), widths)

    def row(self, point: Point) -> Array:
        values = np.array([point[name] for name in self.names], dtype=float)
        return np.where(self._sizes > 0, (values + 0.5) / np.maximum(self._sizes, 1), values)

    def point(self, row: Array) -> dict[str, float]:
        counted = zip(self.names, row, self._sizes, strict=True)
        return {name: int(position * size) if size else float(position) for name, position, size in counted}

    def snap(self, rows: Array) -> Array:
        """Move every row to the nearest one that stands for a point of the space."""
        sizes = np.maximum(self._sizes, 1)
        cells = np.minimum(np.floor(rows * sizes), sizes - 1)
        return np.where(self._sizes > 0, (cells + 0.5) / sizes, rows)

    def features(self, rows: Array) -> Array:
        parts = []
        for k, kind in enumerate(self._kinds):
            column = rows[:, k : k + 1]
            if kind:
                size = int(self._sizes[k])
                column = np.eye(size)[(column[:, 0] * size).astype(int)] / math.sqrt(2)
            parts.append(column)
        return np.hstack(parts)


class _Process:
    """A Gaussian process with known length scales and noise; its amplitude is the likeliest one.

    Args:
        x: Features, shape (n, features).
        y: Standardised values, shape (n,).
        theta: Logarithms of the length scale of every axis and of the noise's variance.
        columns: The axis of every feature.
    """

    def __init__(self, x: Array, y: Array, theta: Array, columns: Array) -> None:
        self.theta = np.clip(theta, math.log(1e-8), math.log(1e3))
        self._x, self._y, self._columns = x, y, columns
        self._lengths = np.exp(self.theta[:-1])[columns]
        kernel = self._kernel(x, x)
        kernel[np.diag_indices(len(x))] += np.exp(self.theta[-1]) + 1e-8
        self._root = np.linalg.cholesky(kernel)
        half = np.linalg.solve(self._root, y)
        self._weights = np.linalg.solve(self._root.T, half)
        self._amplitude = max(float(half @ half) / len(y), 1e-12)
        plausible = -0.5 * float(np.sum((self.theta[:-1] - math.log(0.5)) ** 2)) / 1.5**2
        fit = -0.5 * len(y) * math.log(self._amplitude) - float(np.sum(np.log(np.diag(self._root))))
        self.likelihood = fit + plausible

    def _kernel(self, a: Array, b: Array) -> Array:
        a, b = a / self._lengths, b / self._lengths
        square = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None, :] - 2.0 * (a @ b.T)
        root = np.sqrt(5.0 * np.maximum(square, 0.0))
        matern: Array = (1.0 + root + root**2 / 3.0) * np.exp(-root)
        return matern

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of the function at features ``x``, shape (m,) each."""
        cross = self._kernel(x, self._x)
        half = np.linalg.solve(self._root, cross.T)
        variance = self._amplitude * np.maximum(1.0 - np.sum(half**2, axis=0), 1e-12)
        return cross @ self._weights, np.sqrt(variance)

    def with_expected(self, x: Array) -> _Process:
        """Return the process that has also seen its own expectation at ``x``."""
        expected, _ = self.predict(x)
        return _Process(np.vstack([self._x, x]), np.append(self._y, expected), self.theta, self._columns)


def _acquire(name: str, gain: Array, deviation: Array) -> Array:
    """Return the acquisition for an expected gain over the best value and its standard deviation."""
    if name == "LCB":
        return gain + _KAPPA * deviation
    z = (gain - _XI) / deviation
    below = 0.5 * (1.0 + _erf(z / math.sqrt(2)).astype(float))
    if name == "PI":
        return below
    improvement: Array = (gain - _XI) * below + deviation * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return improvement

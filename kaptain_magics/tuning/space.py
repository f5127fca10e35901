"""The search space: domains as axes that every algorithm can walk.

An algorithm never sees a domain. It sees a ``ContinuousAxis`` (real numbers from 0 to 1) or a ``DiscreteAxis`` (whole
numbers from 0), and the space turns such a point into values under the user's names and of the user's types.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import overload

from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Double, Integer, Value, search_order

_COUNTABLE = 2**53  # beyond it a float cannot tell whole numbers apart
_FINEST = 1e12  # the bounds' size in steps up to which steps are kept apart
_DIGITS = 12  # significant digits of min + k * step at least, so that 0.1 + 2 * 0.1 is 0.3

Point = Mapping[str, float]
"""A position on every axis: from 0 to 1 on a ``ContinuousAxis``, an index on ``DiscreteAxis``."""


class ContinuousAxis:
    """An axis of numbers without gaps, or of more whole numbers than can be enumerated.

    Args:
        low: The value at 0.
        high: The value at 1.
        log: Whether the axis is logarithmic.
        step: Only ``low + k * step``, whole numbers; each owns an equally long piece of the (logarithmic) axis.
    """

    def __init__(self, low: float, high: float, *, log: bool, step: int | None = None) -> None:
        self._low, self._high, self._log, self._step = low, high, log, step
        margin = (step or 0) / 2
        self._from, self._to = self._scaled(low - margin), self._scaled(high + margin)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._log else float(value)

    def value(self, position: float) -> Value:
        """Return the value at ``position`` (0 to 1)."""
        if position <= 0.0 or position >= 1.0:  # not by a logarithm that misses the bound by a digit
            return self._low if position <= 0.0 else self._high
        scaled = self._from * (1.0 - position) + self._to * position
        value = math.exp(scaled) if self._log else scaled
        if self._step is not None:
            value = self._low + round((value - self._low) / self._step) * self._step
        return min(max(value, self._low), self._high)

    def position(self, value: Value) -> float:
        """Return where ``value`` lies (0 to 1)."""
        width = self._to / 2 - self._from / 2  # halves, because the whole may be beyond the largest float
        return min(max((self._scaled(float(value)) / 2 - self._from / 2) / (width or 1.0), 0.0), 1.0)

    def draw(self, rng: random.Random) -> float:
        """Return a random position, evenly from 0 to below 1."""
        return rng.random()


class DiscreteAxis:
    """An axis of countable values.

    Args:
        values: The values by index.
        ordered: Whether neighbours are alike.
    """

    def __init__(self, values: Sequence[Value], *, ordered: bool) -> None:
        self.values = values
        self.ordered = ordered

    def value(self, position: float) -> Value:
        """Return the value of index ``position``."""
        return self.values[int(position)]

    def position(self, value: Value) -> int:
        """Return the index of ``value``.

        Raises:
            ValueError: It is none of the values.
        """
        return self.values.index(value)

    def draw(self, rng: random.Random) -> int:
        """Return a random index, each as likely as the others."""
        return rng.randrange(len(self.values))


Axis = ContinuousAxis | DiscreteAxis


class _SteppedValues(Sequence[float]):
    """``low + k * step`` up to ``high`` for k from 0, without a list of them."""

    def __init__(self, low: float, high: float, step: float, count: int) -> None:
        self._low, self._high, self._step, self._count = low, high, step, count
        self._digits = max(_DIGITS, 4 + math.ceil(math.log10(max(abs(low), abs(high), step) / step)))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[float]: ...
    def __getitem__(self, index: int | slice) -> float | Sequence[float]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        index += self._count if index < 0 else 0
        if not 0 <= index < self._count:
            raise IndexError(index)
        return min(float(f"{self._low + index * self._step:.{self._digits}g}"), self._high) if index else self._low

    def index(self, value: Value, start: int = 0, stop: int | None = None) -> int:  # noqa: ARG002 - as in Sequence
        step = round((float(value) - self._low) / self._step)
        if not 0 <= step < self._count or not math.isclose(self[step], float(value), abs_tol=self._step * 1e-2):
            raise ValueError(value)
        return step


def _double(domain: Double) -> Axis:
    if domain.step is not None and max(abs(domain.min), abs(domain.max)) / domain.step < _FINEST:
        steps = math.floor((domain.max - domain.min) / domain.step * (1 + 1e-12))
        return DiscreteAxis(_SteppedValues(domain.min, domain.max, domain.step, steps + 1), ordered=True)
    if domain.min == domain.max:
        return DiscreteAxis((domain.min,), ordered=True)
    return ContinuousAxis(domain.min, domain.max, log=domain.log)


def _integer(domain: Integer) -> Axis:
    step = domain.step or 1
    steps = (domain.max - domain.min) // step
    if steps and (domain.log or steps >= _COUNTABLE):
        return ContinuousAxis(domain.min, domain.min + steps * step, log=domain.log, step=step)
    return DiscreteAxis(range(domain.min, domain.max + 1, step), ordered=True)


def axis_of(domain: AnyDomain) -> Axis:
    """Return the axis of a domain."""
    match domain:
        case Double():
            return _double(domain)
        case Integer():
            return _integer(domain)
        case Discrete():
            return DiscreteAxis(sorted(domain.values, key=float), ordered=True)
        case Categorical():
            return DiscreteAxis(domain.values, ordered=False)


_REST: dict[type, float] = {ContinuousAxis: 0.5, DiscreteAxis: 0}  # where an axis stands that is not searched


class Space:
    """A search space.

    Args:
        domains: Domains under the user's names.

    Attributes:
        axes: The axes under the same names, without those that have one value only.
        conditional: The names that are searched under a condition.
        order: All names, each behind those that its conditions name.
    """

    def __init__(self, domains: Mapping[str, AnyDomain]) -> None:
        every = {name: axis_of(domain) for name, domain in domains.items()}
        self._fixed = {n: a.values[0] for n, a in every.items() if isinstance(a, DiscreteAxis) and len(a.values) == 1}
        self._names = tuple(every)
        self._conditions = {name: domain.conditions for name, domain in domains.items() if domain.conditions}
        self.conditional = frozenset(self._conditions)
        self.order = search_order(domains)
        self.axes: dict[str, Axis] = {n: a for n, a in every.items() if n not in self._fixed}

    def is_active(self, name: str, values: Mapping[str, Value]) -> bool:
        """Whether a hyperparameter is searched beside the values of those before it in ``order``."""
        return all(condition.holds(values.get(condition.name)) for condition in self._conditions.get(name, ()))

    def value(self, name: str, position: float) -> Value:
        """Return the value of one hyperparameter at a position; of one with a single value that."""
        return self._fixed[name] if name in self._fixed else self.axes[name].value(position)

    def values(self, point: Point) -> dict[str, Value]:
        """Return the hyperparameters at a point, in the order in which the user named them.

        Those whose conditions do not hold are left out.
        """
        if not self._conditions:
            return {n: self._fixed[n] if n in self._fixed else self.axes[n].value(point[n]) for n in self._names}
        values: dict[str, Value] = {}
        for name in self.order:
            if self.is_active(name, values):
                values[name] = self.value(name, point.get(name, 0.0))
        return {name: values[name] for name in self._names if name in values}

    def point(self, values: Mapping[str, Value]) -> dict[str, float] | None:
        """Return the point of hyperparameters of an earlier study, or ``None`` where they lie outside this space.

        What is not searched there stands at a place of its own.
        """
        absent = self.conditional - values.keys()
        try:
            return {n: _REST[type(a)] if n in absent else a.position(values[n]) for n, a in self.axes.items()}
        except (KeyError, ValueError, TypeError, OverflowError):
            return None

    def settled(self, point: Point) -> dict[str, float]:
        """Return the point with what is not searched there at its own place: such points stand for the same trial."""
        if not self._conditions:
            return dict(point)
        values = self.values(point)
        return {name: point[name] if name in values else _REST[type(axis)] for name, axis in self.axes.items()}

    def draw(self, rng: random.Random) -> dict[str, float]:
        """Return a random point: an independent position on every axis, searched there or not."""
        return {name: axis.draw(rng) for name, axis in self.axes.items()}

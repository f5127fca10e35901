"""Domains: the values that a hyperparameter may take in a search."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from kaptain_magics.errors import DomainError

Value = float | int | str


class Domain(msgspec.Struct, frozen=True):
    """Base of all domains; each has ``contains(value)``."""


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise DomainError(f"{what} {value!r} is not a finite number", "write for example Double(1e-4, 1e-1, log=True)")
    return value


def _check_range(kind: str, low: float, high: float, log: bool, step: float | None) -> None:
    if low > high:
        raise DomainError(f"{kind}({low}, {high}) is empty", f"write the smaller bound first: {kind}({high}, {low})")
    if log and low <= 0:
        raise DomainError(f"{kind}({low}, {high}, log=True) needs bounds above 0", "raise the lower bound or drop log")
    if step is not None and step <= 0:
        raise DomainError(f"{kind}: step {step} is not above 0", "write a positive step or omit it")
    if step is not None and log:
        raise DomainError(f"{kind}: log and step exclude each other", "drop one of them")


class Double(Domain, frozen=True, tag="double"):
    """Real numbers from ``min`` to ``max``, both included.

    Args:
        min: Lower bound.
        max: Upper bound.
        log: Draw evenly on a logarithmic scale.
        step: Only ``min + k * step``.

    Raises:
        DomainError: The bounds are reversed or not numbers, or the options exclude each other.

    Example:
        >>> Double(1e-4, 1e-1, log=True).contains(0.01)
        True
    """

    min: float
    max: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        for name in ("min", "max"):
            msgspec.structs.force_setattr(self, name, float(_number(getattr(self, name), f"Double: {name}")))
        if self.step is not None:
            _number(self.step, "Double: step")
        _check_range("Double", self.min, self.max, self.log, self.step)

    def contains(self, value: Value) -> bool:
        """Whether ``value`` is a number within the bounds."""
        return isinstance(value, (int, float)) and self.min <= value <= self.max


class Integer(Domain, frozen=True, tag="integer"):
    """Whole numbers from ``min`` to ``max``, both included.

    Args:
        min: Lower bound.
        max: Upper bound.
        log: Draw evenly on a logarithmic scale.
        step: Only ``min + k * step``.

    Raises:
        DomainError: The bounds are reversed or not whole numbers, or the options exclude each other.

    Example:
        >>> Integer(1, 10).contains(2.5)
        False
    """

    min: int
    max: int
    log: bool = False
    step: int | None = None

    def __post_init__(self) -> None:
        for name in ("min", "max", "step"):
            value = getattr(self, name)
            if value is None and name == "step":
                continue
            if _number(value, f"Integer: {name}") != int(value):
                raise DomainError(f"Integer: {name} {value!r} is not a whole number", "use Double for real numbers")
            msgspec.structs.force_setattr(self, name, int(value))
        _check_range("Integer", self.min, self.max, self.log, self.step)

    def contains(self, value: Value) -> bool:
        """Whether ``value`` is a whole number within the bounds."""
        return isinstance(value, (int, float)) and value == int(value) and self.min <= value <= self.max


def spelled_value(value: Any) -> Any:
    """Return a value as a hyperparameter has it: lists and tuples of plain values as texts, others as they are."""
    if isinstance(value, (list, tuple)) and value and all(map(_is_plain, value)):
        return repr(value)
    return value


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float))


def _plain(value: Any) -> Any:
    if value is None:
        return "None"
    return str(value).lower() if isinstance(value, bool) else spelled_value(value)


def _choices(kind: str, values: object) -> tuple[Value, ...]:
    """Check the values and return them; truth values, ``None``, lists and tuples become texts."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise DomainError(f"{kind} needs a list of values, not {values!r}", f"write for example {kind}([1, 2, 3])")
    values = [_plain(value) for value in values]
    for value in values:
        if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
            raise DomainError(
                f"{kind}: {value!r} is neither a number nor a text", "use numbers, texts, and tuples of them"
            )
    seen = set()
    for value in values:
        if (type(value), value) in seen:
            raise DomainError(f"{kind}: duplicate value {value!r}", "list every value once")
        seen.add((type(value), value))
    return tuple(values)


class Discrete(Domain, frozen=True, tag="discrete"):
    """One of a list of numbers; texts that are numbers are accepted, as the tutorials write them.

    Args:
        values: The numbers, at least one.

    Raises:
        DomainError: The list is empty, has duplicates, or a value is not a number.

    Example:
        >>> Discrete(["16", 32]).values
        ('16', 32)
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        values = _choices("Discrete", self.values)
        for value in values:
            try:
                usable = math.isfinite(float(value))
            except (ValueError, OverflowError):
                usable = False
            if not usable:
                raise DomainError(f"Discrete: {value!r} is not a number", "use Categorical for texts")
        msgspec.structs.force_setattr(self, "values", values)

    def contains(self, value: Value) -> bool:
        """Whether ``value`` is one of the numbers."""
        try:
            return float(value) in {float(v) for v in self.values}
        except ValueError:
            return False


class Categorical(Domain, frozen=True, tag="categorical"):
    """One of a list of texts, numbers or tuples without an order.

    ``None`` is the word ``None``, see ``JobSpec.words``; a tuple is the text that spells it, such as ``(64, 64)``.

    Args:
        values: The choices, at least one.

    Raises:
        DomainError: The list is empty or has duplicates.

    Example:
        >>> Categorical(["relu", None]).values
        ('relu', 'None')
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "values", _choices("Categorical", self.values))

    def contains(self, value: Value) -> bool:
        """Whether ``value`` is one of the choices."""
        return _plain(value) in self.values


AnyDomain = Double | Integer | Discrete | Categorical
DOMAINS: dict[str, type[AnyDomain]] = {d.__name__: d for d in (Double, Integer, Discrete, Categorical)}

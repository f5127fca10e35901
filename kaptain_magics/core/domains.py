"""Domains: the values that a hyperparameter may take in a search."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import msgspec

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import DomainError

Value = float | int | str


OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")


class Condition(msgspec.Struct, frozen=True):
    """When a hyperparameter is searched: another one of the study has certain values.

    Attributes:
        name: The other hyperparameter.
        operator: One of ``OPERATORS``.
        values: What it is compared with; several for ``in`` and ``not in``.
    """

    name: str
    operator: str
    values: tuple[Value, ...]

    def holds(self, value: Value | None) -> bool:
        """Whether it is true of a value; never of ``None``, for a hyperparameter that is not searched itself."""
        if value is None:
            return False
        if self.operator in ("==", "in", "!=", "not in"):
            return any(_same(value, other) for other in self.values) == (self.operator in ("==", "in"))
        try:
            own, bound = float(value), float(self.values[0])
        except ValueError:
            return False
        match self.operator:
            case "<":
                return own < bound
            case "<=":
                return own <= bound
            case ">":
                return own > bound
        return own >= bound

    def possible(self, domain: AnyDomain) -> bool:
        """Whether it can be true of a value of the other one's domain."""
        if not isinstance(domain, Double | Integer):
            return any(map(self.holds, domain.values))
        if self.operator in ("==", "in"):
            return any(not isinstance(v, str) and domain.contains(v) for v in self.values)
        return (
            domain.min < domain.max or self.holds(domain.min)
            if self.operator in ("!=", "not in")
            else (self.holds(domain.min) or self.holds(domain.max))
        )

    def __str__(self) -> str:
        shown = self.values if self.operator in ("in", "not in") else self.values[0]
        return f"{self.name} {self.operator} {shown!r}"


def _same(one: Value, other: Value) -> bool:
    if one == other or str(one) == str(other):
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all domains; each has ``contains(value)``.

    Attributes:
        conditions: When it is searched: all of them must hold. A trial in which one does not leaves the hyperparameter
            as the script has it.
    """

    conditions: tuple[Condition, ...] = ()

    def when(self, **values: Any) -> Self:
        """Return the domain searched only if other hyperparameters have these values.

        Args:
            values: A value, or a list of values, by the other hyperparameter's name.

        Example:
            >>> Double(1e-4, 1e-1).when(kernel="rbf").conditions[0].holds("linear")
            False
        """
        added = tuple(
            Condition(name, "in", tuple(map(_plain, value)))
            if isinstance(value, list)
            else Condition(name, "==", (_plain(value),))
            for name, value in values.items()
        )
        return msgspec.structs.replace(self, conditions=(*self.conditions, *added))

    def renamed(self, rename: Callable[[str], str]) -> Self:
        """Return the domain with other names in its conditions."""
        if not self.conditions:
            return self
        conditions = tuple(msgspec.structs.replace(c, name=rename(c.name)) for c in self.conditions)
        return msgspec.structs.replace(self, conditions=conditions)

    def __repr__(self) -> str:
        config = {f.name: f for f in msgspec.structs.fields(self)}
        shown = [
            repr(getattr(self, name)) if f.required else f"{name}={getattr(self, name)!r}"
            for name, f in config.items()
            if name != "conditions" and (f.required or getattr(self, name) != f.default)
        ]
        text = f"{type(self).__name__}({', '.join(shown)})"
        return f"{text} if {' and '.join(map(str, self.conditions))}" if self.conditions else text


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


def choices(values: Any) -> tuple[Value, ...]:
    """Return values as hyperparameters have them: truth values, ``None``, lists and tuples become texts."""
    return tuple(map(_plain, values))


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


def search_order(domains: Mapping[str, AnyDomain]) -> tuple[str, ...]:
    """Return the names so that each stands behind those that its conditions name.

    Raises:
        DomainError: A condition names something that is not searched or can never hold, or conditions go in a circle.
    """
    for name, domain in domains.items():
        for condition in domain.conditions:
            if condition.name not in domains:
                near = did_you_mean(condition.name, domains) or f"search {condition.name} too, or remove the condition"
                raise DomainError(f"{name} is searched if {condition}, but {condition.name} is not searched", near)
            if not condition.possible(domains[condition.name]):
                raise DomainError(
                    f"{name} is searched if {condition}, which never holds",
                    f"{condition.name}={domains[condition.name]!r}",
                )
    ordered: dict[str, None] = {}
    while len(ordered) < len(domains):
        ready = [
            name
            for name, domain in domains.items()
            if name not in ordered and all(c.name in ordered for c in domain.conditions)
        ]
        if not ready:
            circle = ", ".join(name for name in domains if name not in ordered)
            raise DomainError(f"the conditions of {circle} go in a circle", "remove one of them")
        ordered |= dict.fromkeys(ready)
    return tuple(ordered)

"""What the value of an option may be: each function reads a text or raises ``ValueError`` with what to write."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable

_SECONDS = r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?"
_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MODEL = r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)*"


def text(value: str) -> str:
    """Read a text that is not blank."""
    if not value.strip():
        raise ValueError("write a value")
    return value


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers.

    Args:
        least: The smallest number that is allowed.
        most: The largest one; ``None`` for no bound.
    """
    bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"

    def read(value: str) -> int:
        if not re.fullmatch(r"\d{1,18}", value) or int(value) < least or (most is not None and int(value) > most):
            raise ValueError(f"write a whole number {bounds}")
        return int(value)

    return read


def number(value: str) -> float:
    """Read a number; infinity and NaN are refused, with the ``ValueError`` that all readers raise."""
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise ValueError("write a number")
    return parsed


def seconds(value: str) -> float:
    """Read a duration: ``90``, ``90s``, ``5m``, ``2h``, ``1d``."""
    match = re.fullmatch(_SECONDS, value)
    if match is None or not float(match[1]):
        raise ValueError("write seconds above 0, or 90s, 5m, 2h")
    return float(match[1]) * _UNITS[match[2]]


def model_id(value: str) -> str:
    """Read a model's id such as ``dev/mnist``."""
    from kaptain_magics.core.names import check_model_id

    check_model_id(value)
    if not re.fullmatch(_MODEL, value):
        raise ValueError("write letters, digits, '.', '_', '-' and '/', as in dev/mnist")
    return value


def target_names() -> list[str]:
    """Return the names of all targets: ours and those of installed distributions, which are looked up."""
    from kaptain_magics.targets.base import target_names

    return target_names()


def target(value: str) -> str:
    """Read a target's name: one of ours, or of an installed distribution."""
    from kaptain_magics.core.names import did_you_mean
    from kaptain_magics.targets.base import TARGETS

    if value not in TARGETS and value not in (choices := target_names()):  # ours need no look at what is installed
        raise ValueError(did_you_mean(value, choices) or "write one of " + ", ".join(choices))
    return value


def variable(value: str) -> str:
    """Read the name of a variable."""
    if not value.isidentifier() or keyword.iskeyword(value):
        raise ValueError("write the name of a variable")
    return value


def variables(value: str) -> tuple[str, ...]:
    """Read names of variables between commas."""
    return tuple(variable(name) for name in listed(value))


def listed(value: str) -> tuple[str, ...]:
    """Read texts between commas, such as ``a,b``; blanks around them do not count."""
    parts = tuple(part.strip() for part in value.split(","))
    if not all(parts):
        raise ValueError("write names between commas, without empty ones")
    return parts


def clean_kinds(value: str) -> tuple[str, ...]:
    """Read kinds of what can be cleaned, between commas."""
    from kaptain_magics.model.cleaning import KINDS

    kinds = listed(value)
    if set(kinds) - set(KINDS):
        raise ValueError(f"write one of {', '.join(KINDS)}, or several between commas")
    return kinds


def metrics(value: str) -> tuple[tuple[str, str], ...]:
    """Read ``accuracy=score`` or ``accuracy`` (for a variable of that name); several between commas."""
    pairs = []
    for part in listed(value):
        name, equals, path = part.partition("=")
        path = path.strip() if equals else name
        if not name.strip() or not all(piece.isidentifier() for piece in path.split(".")):
            raise ValueError("write METRIC=VARIABLE, as in accuracy=score")
        pairs.append((name.strip(), path))
    return tuple(pairs)


def pair(value: str) -> tuple[tuple[str, str], ...]:
    """Read ``name=value`` as a tuple of one pair; the value may be empty."""
    name, equals, rest = value.partition("=")
    if not equals or not name.strip():
        raise ValueError("write NAME=VALUE")
    return ((name.strip(), rest),)


def environment(value: str) -> tuple[tuple[str, str | None], ...]:
    """Read ``NAME=value``, or ``NAME`` for the value that it has here (so that it need not stand in a notebook).

    The second is ``(NAME, None)``: its value is taken when the run starts, and never written down.
    """
    import os

    name, equals, rest = value.partition("=")
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError("write NAME=VALUE, or NAME to pass a variable of this environment on")
    if not equals and name not in os.environ:
        raise ValueError(f"this environment has no {name}: set it with os.environ, or write {name}=VALUE (no secret)")
    return ((name, rest if equals else None),)


def words(value: str) -> tuple[str, ...]:
    """Read a command line, split as a POSIX shell splits it."""
    import shlex

    try:
        return tuple(shlex.split(value))
    except ValueError:
        raise ValueError("close the quotes") from None


def percent(value: str) -> int:
    """Read a percentage from 0 to 100, with or without its sign."""
    return whole(0, 100)(value.removesuffix("%"))

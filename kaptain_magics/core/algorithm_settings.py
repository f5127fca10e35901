"""Settings of algorithms and stopping rules: what a person writes as ``NAME=VALUE``, checked and read.

The loop of this package and every target's own tuner have tables of them, which differ for the same name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.errors import AlgorithmError


@dataclass(frozen=True)
class Setting:
    """A setting of an algorithm.

    Attributes:
        key: The keyword argument of the factory that gets the value; empty where it is only checked.
        read: Turns the text into a value; raises ``ValueError`` where it is not usable.
        expected: What is usable, completes "... is not".
    """

    key: str
    read: Callable[[str], object]
    expected: str


def whole(key: str, least: int) -> Setting:
    """Return a setting that is a whole number of at least ``least``."""

    def read(text: str) -> int:
        if (number := int(text)) < least:
            raise ValueError(text)
        return number

    return Setting(key, read, f"a whole number from {least}")


def above(key: str, bound: float) -> Setting:
    """Return a setting that is a finite number above a bound."""
    return _number(key, bound, math.inf, f"a number above {bound:g}")


def between(key: str, low: float, high: float) -> Setting:
    """Return a setting that is a number between two bounds, the bounds excluded."""
    return _number(key, low, high, f"a number between {low:g} and {high:g}")


def _number(key: str, low: float, high: float, expected: str) -> Setting:
    def read(text: str) -> float:
        if not low < (number := float(text)) < high:
            raise ValueError(text)
        return number

    return Setting(key, read, expected)


def one_of(key: str, *words: str, more: str = "") -> Setting:
    """Return a setting that is one of some words; ``more`` is added to the message where it is not."""

    def read(text: str) -> str:
        return words[words.index(text)]

    return Setting(key, read, f"one of {', '.join(words)}" + (f" ({more})" if more else ""))


def read_settings(
    choices: Mapping[str, Setting], name: str, texts: Mapping[str, str], elsewhere: Mapping[str, Setting] | None = None
) -> dict[str, object]:
    """Return the values of settings by the keyword arguments that get them.

    Args:
        choices: The settings that there are.
        name: What they belong to.
        texts: The settings as they were written.
        elsewhere: Those that the other tuner (the target's own, or the loop here) has under that name, for the message.

    Raises:
        AlgorithmError: One does not exist or has a value that is not usable.
    """
    values: dict[str, object] = {}
    for key, text in texts.items():
        if key not in choices:
            hint = nearest(key, choices) if choices else "remove it"
            if key in (elsewhere or {}):
                listed = ", ".join(choices) or "none"
                hint = f"another implementation of {name} has it, the one that would run here has {listed}"
            raise AlgorithmError(f"{name} has no setting {key!r}", hint)
        setting = choices[key]
        try:
            value = setting.read(str(text).strip())
        except (ValueError, OverflowError):
            hint = f"correct {key}, or remove it"
            raise AlgorithmError(f"{name}: {key} {text!r} is not {setting.expected}", hint) from None
        if setting.key:
            values[setting.key] = value
    return values


def read_stopping_rule(spec: StudySpec, rules: Mapping[str, Mapping[str, Setting]]) -> dict[str, object]:
    """Return the settings of a study's stopping rule; none where it has no rule.

    Args:
        spec: The study.
        rules: The rules that there are, with their settings.

    Raises:
        AlgorithmError: The rule or a setting does not exist.
    """
    name = spec.early_stopping
    if not name:
        if spec.early_stopping_settings:
            raise AlgorithmError("early-stopping settings without a rule", "write --early-stopping medianstop")
        return {}
    if name not in rules:
        raise AlgorithmError(f"unknown early-stopping rule {name!r}", nearest(name, rules))
    return read_settings(rules[name], name, spec.early_stopping_settings)


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return a hint for a word that is not known: the one that is most like it, else all of them."""
    choices = list(choices)
    return did_you_mean(word, choices) or "one of " + ", ".join(choices)

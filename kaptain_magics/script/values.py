"""Values given for hyperparameters, matched with what a script takes."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping

from kaptain_magics.core.domains import Value
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import Binding, Parameter, Script
from kaptain_magics.errors import ScriptError

_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)")
_REAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_OWN_LIST = re.compile(r"\bparse(?:_known)?_args\(\s*(?:args\s*=\s*)?[\[(\"']")
_YES = {"1", "true", "yes", "y", "on"}
_NO = {"0", "false", "no", "n", "off"}


def bindings(script: Script, names: Iterable[str]) -> dict[str, Binding]:
    """Say how a script takes hyperparameters.

    Args:
        script: The script.
        names: Their names as the command line spells them, with or without dashes (``gamma`` or ``--gamma``).

    Returns:
        The binding of each, under the same names.

    Raises:
        ScriptError: The script does not take one of them; the hint has those that it takes.
    """
    found = {}
    for name in names:
        parameter = next((p for p in script.parameters if name in (p.name, f"--{p.name}") and not p.flag), None)
        if parameter is None and not script.open_options:
            raise _unknown(script, name)
        found[name] = parameter.binding if parameter else Binding.OPTION
    return found


def canonical(script: Script, name: str) -> str:
    """Return the name that the command line spells for one that a person typed.

    ``learning_rate`` becomes ``learning-rate`` where that is the option, ``g`` becomes ``-g``, a ``dest`` its option.

    Raises:
        ScriptError: The script takes nothing of that name.
    """
    parameter = _find(script, name)
    if parameter is None:
        if script.open_options:
            return name
        raise _unknown(script, name)
    flag = parameter.flag or parameter.name
    return flag.removeprefix("--")


def typed(script: Script, texts: Mapping[str, str]) -> dict[str, Value]:
    """Turn the texts of a line into values of the types that the script has for them.

    Args:
        script: The script.
        texts: What was typed, by name.

    Returns:
        The values under the names that the command line spells.

    Raises:
        ScriptError: The script takes no such name, or has a number or a flag where the text is neither.
    """
    values: dict[str, Value] = {}
    for name, text in texts.items():
        key = canonical(script, name)
        if key in values:
            raise ScriptError(f"`{key}` is given twice, once as `{name}`", "give it once")
        parameter = _find(script, name)
        values[key] = read_value(text) if parameter is None else _typed(parameter, name, text)
    return values


def read_value(text: str) -> Value:
    """Return the number that a text spells, else the text."""
    if _INTEGER.fullmatch(text) and abs(int(text)) < 2**63:
        return int(text)
    if _REAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def _typed(parameter: Parameter, name: str, text: str) -> Value:
    try:
        default = ast.literal_eval(parameter.default)
    except (ValueError, SyntaxError, TypeError):
        default = None
    if parameter.binding is Binding.SWITCH or isinstance(default, bool):
        word = text.lower()
        if word not in _YES | _NO:
            raise ScriptError(
                f"{name}={text}: the script has a flag there (line {parameter.line})", "write true or false"
            )
        return int(word in _YES) if parameter.binding is Binding.ASSIGNMENT else str(word in _YES).lower()
    if isinstance(default, str):
        return text
    value = read_value(text)
    if parameter.binding is Binding.ASSIGNMENT and isinstance(default, (int, float)) and isinstance(value, str):
        there = f"{parameter.name} = {parameter.default}, line {parameter.line}"
        raise ScriptError(f"{name}={text}: the script has a number there ({there})", "write a number")
    return value


def _find(script: Script, name: str) -> Parameter | None:
    known = {p.name: p for p in reversed(script.parameters)}
    bare = name.lstrip("-")
    for spelling in (name, bare, bare.replace("_", "-"), bare.replace("-", "_"), f"-{bare}"):
        if spelling in known:
            return known[spelling]
    return None


def _unknown(script: Script, name: str) -> ScriptError:
    names = sorted(p.name for p in script.parameters if not p.name.startswith("-")) or sorted(
        p.name for p in script.parameters
    )
    word = name.lstrip("-")
    if _OWN_LIST.search(script.source) and word not in names:
        return ScriptError(
            f"the script takes no `{word}`: it parses a list of its own, not its command line", "write parse_args()"
        )
    if not names:
        return ScriptError(
            f"the script takes no hyperparameters, so no `{word}`",
            f'assign it at top level ({word} = ...) or add parser.add_argument("--{word}")',
        )
    near = did_you_mean(word, names)
    return ScriptError(f"the script takes no `{name}`", f"it takes {', '.join(names)}" + (f"; {near}" if near else ""))

"""Values given for hyperparameters, matched with what a script takes."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping

from kaptain_magics.core.domains import AnyDomain, Double, Integer, Value
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import Binding, Parameter, Script
from kaptain_magics.errors import ScriptError
from kaptain_magics.runtime.text_values import truth_of

_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)")
_REAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_OWN_LIST = re.compile(r"\bparse(?:_known)?_args\(\s*(?:args\s*=\s*)?[\[(\"']")
_NONE = "None"
_FLAGS = (Binding.TRUTH, Binding.SWITCH, Binding.NEGATED, Binding.COUNT)


def bindings(script: Script, names: Iterable[str]) -> dict[str, Binding]:
    """Say how a script takes hyperparameters.

    Args:
        script: The script.
        names: Their names as the command line spells them, with or without dashes (``gamma`` or ``--gamma``).

    Returns:
        The binding of each, under the same names.

    Raises:
        ScriptError: The script does not take one of them (the hint has those that it takes), or assigns it again.
    """
    result = {}
    for name in names:
        parameter = script.parameter(name)
        if parameter is None and not script.open_options:
            raise _unknown(script, name)
        if parameter is not None and parameter.again:
            raise ScriptError(
                f"`{name}` would have no effect: after line {parameter.line} the script assigns it again in line "
                f"{parameter.again}",
                "remove one of the two assignments",
            )
        result[name] = parameter.binding if parameter else Binding.OPTION
    return result


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


def check_domain(script: Script, name: str, domain: AnyDomain) -> None:
    """Check that a script takes what is searched where it has a flag, or has no place for ``None``.

    Raises:
        ScriptError: It does not.
    """
    parameter = _find(script, name)
    if parameter is None:
        return
    for value in (domain.min, domain.max) if isinstance(domain, Double | Integer) else domain.values:
        if value == _NONE or _is_flag(parameter):
            _typed(parameter, name, str(value))


def read_value(text: str) -> Value:
    """Return the number that a text spells, else the text."""
    if _INTEGER.fullmatch(text) and abs(int(text)) < 2**63:
        return int(text)
    if _REAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def _typed(parameter: Parameter, name: str, text: str) -> Value:
    default = _default(parameter)
    if text == _NONE and _takes_none(parameter, name):
        return text
    if parameter.binding is Binding.COUNT:
        return _count(parameter, name, text)
    if _is_flag(parameter):
        yes = _truth(parameter, name, text)
        return int(yes) if parameter.binding is Binding.ASSIGNMENT else str(yes).lower()
    if isinstance(default, str):
        return text
    value = read_value(text)
    if parameter.binding is Binding.ASSIGNMENT and isinstance(default, (int, float)) and isinstance(value, str):
        source = f"{parameter.name} = {parameter.default}, line {parameter.line}"
        raise ScriptError(f"{name}={text}: this is a number in the script ({source})", "write a number")
    return value


def _default(parameter: Parameter) -> object:
    """Return the default where it is a literal."""
    try:
        return ast.literal_eval(parameter.default)
    except (ValueError, SyntaxError, TypeError):
        return None


def _is_flag(parameter: Parameter) -> bool:
    return parameter.binding in _FLAGS or isinstance(_default(parameter), bool)


def _takes_none(parameter: Parameter, name: str) -> bool:
    """Whether ``None`` is more than a text there: a job turns the word into it, or leaves the option out."""
    default = _default(parameter)
    if isinstance(default, str | bool) or parameter.binding in (Binding.SWITCH, Binding.NEGATED, Binding.COUNT):
        return False
    if parameter.binding is not Binding.ASSIGNMENT and default is not None:
        raise ScriptError(
            f"{name}=None: a command line has no None, and the option's default is {default} (line {parameter.line})",
            "give that option default=None; None then omits it",
        )
    return True


def _count(parameter: Parameter, name: str, text: str) -> int:
    if text.isdecimal():
        return int(text)
    value = truth_of(text)
    if value is None:
        raise ScriptError(
            f"{name}={text}: the script counts how often this flag is given (line {parameter.line})",
            "write a count: 0, 1, 2",
        )
    return int(value)


def _truth(parameter: Parameter, name: str, text: str) -> bool:
    value = truth_of(text)
    if value is None:
        raise ScriptError(f"{name}={text}: this is a flag in the script (line {parameter.line})", "write true or false")
    only = parameter.binding is Binding.SWITCH
    one_way = parameter.binding is Binding.NEGATED or (only and not parameter.off)
    if one_way and _default(parameter) is only and value is not only:
        raise ScriptError(
            f"{name}={text}: the script's flag can only set {only}, already its default (line {parameter.line})",
            "give that option action=argparse.BooleanOptionalAction",
        )
    return value


def _find(script: Script, name: str) -> Parameter | None:
    by_name = {p.name: p for p in reversed(script.parameters)}
    bare = name.lstrip("-")
    for spelling in (name, bare, bare.replace("_", "-"), bare.replace("-", "_"), f"-{bare}"):
        if spelling in by_name:
            return by_name[spelling]
    return None


def _unknown(script: Script, name: str) -> ScriptError:
    names = sorted(p.name for p in script.parameters if not p.name.startswith("-")) or sorted(
        p.name for p in script.parameters
    )
    word = name.lstrip("-")
    if _OWN_LIST.search(script.source) and word not in names:
        return ScriptError(
            f"the script takes no `{word}`: it parses a fixed list, not its command line",
            "call parse_args() without arguments",
        )
    if not names:
        return ScriptError(
            f"the script takes no hyperparameters, so no `{word}`",
            f'assign it at top level ({word} = ...) or add parser.add_argument("--{word}")',
        )
    near = did_you_mean(word, names)
    return ScriptError(f"the script takes no `{name}`", f"it takes {', '.join(names)}" + (f"; {near}" if near else ""))

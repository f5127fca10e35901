"""Values given for hyperparameters, matched with what a script takes."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from kaptain_magics.core.domains import AnyDomain, Double, Integer, Value
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.scripts import Binding, Parameter, Script
from kaptain_magics.errors import ScriptError
from kaptain_magics.runtime.places import is_plain
from kaptain_magics.runtime.text_values import truth_of
from kaptain_magics.script.code_values import config_keys, explain_fixed, inner_parameters
from kaptain_magics.script.positions import given_in_order

_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)")
_REAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_OWN_LIST = re.compile(r"\bparse(?:_known)?_args\(\s*(?:args\s*=\s*)?[\[(\"']")
_NONE = "None"
_SHOWN = 20  # names that a message lists
_FLAGS = (Binding.TRUTH, Binding.SWITCH, Binding.NEGATED, Binding.COUNT)


def bindings(script: Script, names: Iterable[str]) -> dict[str, Binding]:
    """Say how a script takes hyperparameters.

    Args:
        script: The script.
        names: Their names as the command line spells them, with or without dashes (``gamma`` or ``--gamma``).

    Returns:
        The binding of each, under the same names.

    Raises:
        ScriptError: The script does not take one of them (the hint has those that it takes), or a value would have no
            effect there.
    """
    result: dict[str, Binding] = {}
    places: dict[str, Parameter] = {}
    for name in names:
        parameter = _exactly(script, name)
        if parameter is None and not (script.open_options or script.overrides):
            raise _unknown(script, name)
        if parameter is not None:
            _check_effect(parameter, name)
        if parameter is not None and parameter.position:
            places[parameter.name] = parameter
        if parameter is None and script.overrides:
            _check_key(script, name)
            result[name] = Binding.OVERRIDE
        else:
            result[name] = parameter.binding if parameter else Binding.OPTION
    if places:
        for given, missing in given_in_order([p for p in script.parameters if p.position], set(places)):
            raise ScriptError(
                f"`{given.name}` is word {given.position} of the command line (line {given.line}), and "
                f"`{missing.name}` before it has no value",
                f"give {missing.name} a value too",
            )
    return result


def _check_key(script: Script, name: str) -> None:
    """Refuse a key that OmegaConf would add to the configuration, where nothing reads it."""
    keys = config_keys(script.source)
    if keys is not None and name not in keys:
        near = did_you_mean(name, keys)
        raise ScriptError(
            f"the configuration has no `{name}`", f"it has {', '.join(sorted(keys))}" + (f"; {near}" if near else "")
        )


def _check_effect(parameter: Parameter, name: str) -> None:
    """Refuse a value that would have no effect, or could be meant for several places."""
    if parameter.lines:
        raise ScriptError(
            f"`{name}` stands in lines {', '.join(map(str, parameter.lines[:-1]))} and {parameter.lines[-1]}",
            f"assign it once at top level ({parameter.name.rpartition('.')[2]} = ...) and use it there",
        )
    if parameter.again:
        raise ScriptError(
            f"`{name}` would have no effect: after line {parameter.line} the script assigns it again in line "
            f"{parameter.again}",
            "remove one of the two assignments",
        )
    if parameter.why:
        raise ScriptError(
            f"`{name}` in line {parameter.line} would have no effect: {parameter.why}",
            "set what is passed there, or leave it out of the call",
        )


def remarks(script: Script, names: Iterable[str]) -> list[str]:
    """Return a line for what a reader may not expect of the places where values are put.

    Args:
        script: The script.
        names: The hyperparameters, as ``canonical`` spells them.
    """
    known = {name: parameter for name in names if (parameter := _exactly(script, name)) is not None}
    code = {name: parameter for name, parameter in known.items() if parameter.binding is Binding.ASSIGNMENT}
    lines = []
    inside = [f"{p.name} in line {p.line}" for p in code.values() if "." in p.name]
    if inside:
        lines.append(f"Set in the script: {', '.join(inside)}.")
    for name, parameter in code.items():
        if parameter.later:
            lines.append(
                f"{name} is set in line {parameter.line}, and line {parameter.later} gives it another value later."
            )
        others = [p for p in script.parameters if p.name.endswith(f".{name}") and p.binding is Binding.ASSIGNMENT]
        if others:
            stay = ", ".join(f"{p.name} = {p.default} in line {p.line}" for p in others)
            lines.append(f"{name} is set in line {parameter.line}; unchanged: {stay}.")
    return lines


def canonical(script: Script, name: str) -> str:
    """Return the name that the command line spells for one that a person typed.

    ``learning_rate`` becomes ``learning-rate`` where that is the option, ``g`` becomes ``-g``, a ``dest`` its option,
    ``n_estimators`` becomes ``params.n_estimators`` where it is the only one.

    Raises:
        ScriptError: The script takes nothing of that name, or several.
    """
    parameter = _find(script, name)
    if parameter is None:
        if script.open_options or script.overrides:
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
        if value == _NONE or _is_flag(parameter) or is_sequence(str(value)):
            _typed(parameter, name, str(value))


def names_to_set(script: Script) -> list[str]:
    """Return the names that a line can set, for completion: those of the script, and the ends of whole ones."""
    names = [p.name for p in script.parameters if not (p.name.startswith("-") or p.again or p.lines or p.why)]
    ends = [name.rpartition(".")[2] for name in names]
    return [*names, *(end for name, end in zip(names, ends, strict=True) if end != name and ends.count(end) == 1)]


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
    if parameter.binding is Binding.ASSIGNMENT and isinstance(value, str):
        source = f"{parameter.name} = {parameter.default}, line {parameter.line}"
        if isinstance(default, (int, float)):
            hint = f"write a number, or {parameter.name} = ({parameter.default},) in the script"
            hint = hint if is_sequence(text) else "write a number"
            raise ScriptError(f"{name}={text}: this is a number in the script ({source})", hint)
        if isinstance(default, (tuple, list)) and not is_sequence(text):
            kind = type(default).__name__
            raise ScriptError(f"{name}={text}: this is a {kind} in the script ({source})", f"write {name}=(64, 64)")
    return value


def is_sequence(text: str) -> bool:
    """Whether a text spells a list or tuple of plain values."""
    if text[:1] not in ("(", "["):
        return False
    try:
        return is_plain(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


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


def whole_name(script: Script, name: str) -> str:
    """Return the whole name of a value in the code that a person named by its end; any other name as it is.

    Raises:
        ScriptError: Several values end in that name.
    """
    if _exactly(script, name) is not None:
        return name
    parameter = _find(script, name)
    return parameter.name if parameter is not None and parameter.binding is Binding.ASSIGNMENT else name


def _exactly(script: Script, name: str) -> Parameter | None:
    """Return what a script has under exactly this name."""
    known = script.parameter(name)
    if known is None and "." in name:
        known = next((p for p in _inner(script) if p.name == name), None)
    return known


def _find(script: Script, name: str) -> Parameter | None:
    """Return what a script has under a name, by its whole name or by the end of it.

    Raises:
        ScriptError: Several values end in that name.
    """
    known = {p.name: p for p in reversed(script.parameters)}
    bare = name.lstrip("-")
    for spelling in (name, bare, bare.replace("_", "-"), bare.replace("-", "_"), f"-{bare}"):
        if spelling in known:
            return known[spelling]
    if script.overrides or script.open_options or name.startswith("-"):
        return None
    candidates = [p for p in (*script.parameters, *_inner(script)) if p.name == bare or p.name.endswith(f".{bare}")]
    exact = [p for p in candidates if p.name == bare]
    usable = exact or [p for p in candidates if not (p.again or p.why)] or candidates
    if len(usable) > 1:
        places = "; ".join(f"{p.name} in {_lines(p)}" for p in usable)
        single = next((p.name for p in usable if not p.lines), "")
        hint = f"write the whole name: {single}=VALUE" if single else f"assign it once at top level ({bare} = ...)"
        raise ScriptError(f"`{name}` could be any of {len(usable)} values of the script: {places}", hint)
    return usable[0] if usable else None


def _lines(parameter: Parameter) -> str:
    if len(parameter.lines) < 2:
        return f"line {parameter.line}"
    return f"lines {', '.join(map(str, parameter.lines[:-1]))} and {parameter.lines[-1]}"


@lru_cache(maxsize=32)
def _inner_of(source: str) -> tuple[Parameter, ...]:
    try:
        return tuple(inner_parameters(ast.parse(source), source))
    except RecursionError:
        return ()


def _inner(script: Script) -> tuple[Parameter, ...]:
    """Return the values in functions and calls."""
    return _inner_of(script.source)


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
    fixed = explain_fixed(script.source, word)
    if fixed is not None:
        return ScriptError(*fixed)
    if not names:
        return ScriptError(
            f"the script takes no hyperparameters, so no `{word}`",
            f'assign it at top level ({word.rpartition(".")[2]} = ...) or add parser.add_argument("--{word}")',
        )
    ends = {p.rpartition(".")[2]: p for p in names}
    near = did_you_mean(word, {*names, *ends})
    shown = [*names[:_SHOWN], f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else names
    return ScriptError(f"the script takes no `{name}`", f"it takes {', '.join(shown)}" + (f"; {near}" if near else ""))

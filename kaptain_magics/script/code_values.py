"""Plain values in a script's code as hyperparameters: what can be set, and what has no effect or no single place.

``runtime.places`` says where they are and how they are called; here is what the rest of the script does to them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache

from kaptain_magics.core.scripts import Binding, Parameter
from kaptain_magics.runtime.places import (
    Place,
    dotted,
    functions,
    in_effect,
    inner_places,
    last_name,
    outer_places,
    statements,
)
from kaptain_magics.runtime.text_values import shorten

_OF_PARSERS = ("add_argument.", "option.", "Option.", "argument.", "print.", "open.")


def outer_parameters(tree: ast.Module, source: str) -> Iterator[Parameter]:
    """Yield the values at top level, of classes and of functions' defaults."""
    code = _Code(tree, source)
    for places in _by_name(outer_places(tree)):
        yield code.parameter(places)


def inner_parameters(tree: ast.Module, source: str) -> Iterator[Parameter]:
    """Yield the values in functions and the arguments of calls, which are only looked for where a line names one."""
    known = {place.name for place in outer_places(tree)}
    for places in _by_name(inner_places(tree)):
        first = places[0]
        if first.name in known or first.name.startswith(_OF_PARSERS):
            continue
        lines = tuple(place.node.lineno for place in places)
        several = len(lines) > 1 and (first.kind == "argument" or first.branch)
        yield Parameter(
            first.name,
            Binding.ASSIGNMENT,
            _text(source, first.node),
            lines[0],
            later=lines[1] if len(lines) > 1 and not several else 0,
            lines=lines if several else (),
        )


def _by_name(places: Iterable[Place]) -> Iterable[list[Place]]:
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(place.name, []).append(place)
    return groups.values()


@lru_cache(maxsize=4)
def _lines(source: str) -> list[bytes]:
    return source.encode().splitlines()


def _text(source: str, node: ast.expr) -> str:
    """Return the source of a node; ``ast.get_source_segment`` would split the whole source each time."""
    lines = _lines(source)
    if node.lineno != node.end_lineno or node.lineno > len(lines):
        return ast.get_source_segment(source, node) or ""
    return lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()


class _Code:
    """A script, asked what becomes of a value between the place where it is set and those where it is used."""

    def __init__(self, tree: ast.Module, source: str) -> None:
        self._tree, self._source = tree, source
        self._flat = list(statements(tree.body))
        self._calls: dict[str, list[ast.Call]] = {}
        self._loaded: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                self._calls.setdefault(last_name(node.func), []).append(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self._loaded.add(node.id)
        self._functions = list(functions(tree))
        self._classes = {n.name: n for n, _ in self._flat if isinstance(n, ast.ClassDef)}
        self._readers: dict[str, set[str]] = {}
        self._reads: dict[str, set[str]] | None = None  # what each function and class reads, by its name

    def parameter(self, places: list[Place]) -> Parameter:
        """Return the hyperparameter that these places of one name are."""
        first = places[0]
        if first.kind == "default" and len(self._calls.get(first.name.rpartition(".")[0], ())) == 1:
            first = in_effect(self._tree, first)
        lines = tuple(place.node.lineno for place in (first, *places[1:]))
        plain = Parameter(first.name, Binding.ASSIGNMENT, _text(self._source, first.node), lines[0])
        if first.branch and len(lines) > 1:
            return _with(plain, lines=lines)
        if first.kind in ("default", "class"):
            why, later = self._passed(first)
            if not why and first.kind == "class":
                why, later = self._set_on_instance(first, later)
            if why or later:
                return _with(plain, why=why, later=later)
        again, later = self._assigned_again(first.name, first.node.lineno)
        return _with(plain, again=again, later=later)

    def _passed(self, place: Place) -> tuple[str, int]:
        """Return why a default never counts, or else a line that passes another value in its place."""
        owner, _, argument = place.name.rpartition(".")
        owner = last_name(ast.parse(owner, mode="eval").body)
        calls = self._calls.get(owner, [])
        index = self._index(owner, argument)
        passing = [call for call in calls if _passes(call, argument, index)]
        if place.kind == "default" and not calls and owner not in self._loaded:
            return f"nothing calls {owner}", 0
        if passing and len(passing) == len(calls):
            call = shorten(_text(self._source, passing[0]), 40)
            return f"line {passing[0].lineno} passes another one: {call}", 0
        return "", passing[0].lineno if passing else 0

    def _index(self, owner: str, argument: str) -> int:
        """Return an argument's place in a call; beyond any where it has none."""
        node = self._classes.get(owner)
        names: list[str] = []
        if node is not None:
            names = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        for name, function in self._functions:
            if name == owner and function.name in (owner, "__init__"):
                arguments = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
                names = arguments[1:] if function.name == "__init__" else arguments
        return names.index(argument) if argument in names else 1000

    def _set_on_instance(self, place: Place, later: int) -> tuple[str, int]:
        """Return why an attribute of a class never counts because what is made of it gets another one at once."""
        owner, _, key = place.name.rpartition(".")
        for node, _ in self._flat:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=func)) if dotted(func) == owner:
                    again, after = self._assigned_again(f"{name}.{key}", node.lineno)
                    if again:
                        return f"line {again} sets {name}.{key}", 0
                    later = later or after
        return "", later

    def _assigned_again(self, whole_name: str, start: int) -> tuple[int, int]:
        """Return the line that undoes the value before anything reads it, and else one that assigns it later."""
        root = whole_name.partition(".")[0]
        readers = self._readers_of(root)
        read, later = False, 0
        for node, branch in self._flat:
            if node.lineno <= start:
                continue
            line = _assigns(node, whole_name)
            if line:
                if not (branch or read or any(_reads_any(part, readers) for part in _values(node))):
                    return line, 0
                later = later or line
            elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                read = read or any(_reads_any(part, readers) for part in _own_parts(node))
        return 0, later

    def _readers_of(self, root: str) -> set[str]:
        """Return a name with the functions and classes that read it, directly or by others."""
        if root not in self._readers:
            if self._reads is None:
                self._reads = {
                    node.name: {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
                    for node, _ in self._flat
                    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                }
            readers = {root}
            for _ in range(3):
                readers |= {name for name, names in self._reads.items() if names & readers}
            self._readers[root] = readers
        return self._readers[root]


def _with(parameter: Parameter, **changes: object) -> Parameter:
    from msgspec.structs import replace

    return replace(parameter, **changes)


def _passes(call: ast.Call, argument: str, index: int) -> bool:
    starred = any(isinstance(a, ast.Starred) for a in call.args)
    return len(call.args) > index or (starred and index < 1000) or any(k.arg in (argument, None) for k in call.keywords)


def _assigns(node: ast.stmt, name: str) -> int:
    """Return the line where a statement gives ``name``, or what holds it, another value; 0 where it does not."""
    root, _, key = name.partition(".")
    match node:
        case ast.Assign(targets=targets) if any(_holds(t, name) for target in targets for t in _flat_targets(target)):
            return node.lineno
        case ast.AnnAssign(target=target, value=ast.expr()) if _holds(target, name):
            return node.lineno
        case ast.For(target=target) if any(_holds(t, name) for t in _flat_targets(target)):
            return node.lineno
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=own), attr="update")) as call) if own == root:
            given = {k.arg for k in call.keywords}
            for argument in call.args:
                if isinstance(argument, ast.Dict):
                    given |= {k.value for k in argument.keys if isinstance(k, ast.Constant)}  # type: ignore[misc]
            return node.lineno if key and key in given else 0
    return 0


def _holds(target: ast.expr, name: str) -> bool:
    path = dotted(target)
    return bool(path) and (path == name or name.startswith(f"{path}."))


def _flat_targets(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for inner in target.elts:
            yield from _flat_targets(inner)
    else:
        yield target


def _values(node: ast.stmt) -> list[ast.AST]:
    """Return what an assigning statement takes its values from; ``p.update(...)`` does not read ``p``."""
    match node:
        case ast.Expr(value=ast.Call(args=args, keywords=keywords)):
            return [*args, *keywords]
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value) | ast.For(iter=value):
            return [value]
    return []


def _own_parts(node: ast.stmt) -> list[ast.AST]:
    """Return what a statement itself runs: of a compound one its head, for those below it come by themselves."""
    if isinstance(node, (ast.If, ast.While, ast.For, ast.AsyncFor, ast.With, ast.AsyncWith, ast.Try, ast.Match)):
        return [n for n in ast.iter_child_nodes(node) if isinstance(n, (ast.expr, ast.withitem))]
    return [node]


def _reads_any(node: ast.AST | None, names: set[str]) -> bool:
    return node is not None and any(
        isinstance(n, ast.Name) and n.id in names and isinstance(n.ctx, ast.Load) for n in ast.walk(node)
    )


def config_keys(source: str) -> set[str] | None:
    """Return the keys of the dicts that a script gives to ``OmegaConf.create``; ``None`` where not all can be known."""
    keys: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and dotted(node.func.value) == "OmegaConf"
        ):
            if node.func.attr in ("load", "structured"):
                return None
            if node.func.attr == "create":
                if not (len(node.args) == 1 and isinstance(node.args[0], ast.Dict)):
                    return None
                keys |= _paths(node.args[0])
    return keys or None


def _paths(node: ast.Dict, prefix: str = "") -> set[str]:
    paths: set[str] = set()
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            paths.add(f"{prefix}{key.value}")
            if isinstance(value, ast.Dict):
                paths |= _paths(value, f"{prefix}{key.value}.")
    return paths


# ---- what cannot be set ----------------------------------------------------------------------------------------------


def explain_fixed(source: str, name: str) -> tuple[str, str] | None:
    """Say where a name stands that cannot be set, and why; ``None`` where the script has no such name.

    Returns:
        The message, and what to write.
    """
    tree = ast.parse(source)
    last = name.rpartition(".")[2]
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=own)], value=ast.Dict() as value) if own == name:
                keys = [k.value for k in value.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)]
                return (
                    f"`{name}` in line {node.lineno} is a dict: its keys are set one by one",
                    f"write {name}.{keys[0]}=VALUE; it has {', '.join(keys[:12])}" if keys else "give it keys",
                )
            case ast.Assign(targets=[*_, _] as targets) if len(targets) > 1 and name in map(dotted, targets):
                names = ", ".join(filter(None, map(dotted, targets)))
                return (
                    f"`{name}` in line {node.lineno} shares its value: {names} are assigned together",
                    f"give {name} a line of its own",
                )
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                if name in (dotted(target), last_name(target)):
                    return _computed(source, f"`{name}` in line {node.lineno}", name, value)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == last and isinstance(last, str):
                        return _computed(source, f"`{last}`, a key of the dict in line {key.lineno},", last, value)
            case ast.keyword(arg=own, value=value) if own == last:
                return _computed(source, f"`{last}`, an argument in line {value.lineno},", last, value)
            case ast.For(target=target) if name in map(dotted, _flat_targets(target)):
                return (
                    f"`{name}` in line {node.lineno} is a loop's variable",
                    f"assign one value at top level ({name} = ...); %kaptain_tune tries several",
                )
            case ast.FunctionDef(name=function, args=arguments) if name in {
                a.arg for a in (*arguments.args, *arguments.kwonlyargs)
            }:
                return (
                    f"`{name}` is an argument of {function} in line {node.lineno} without a plain default",
                    f"write a default there and call {function} without it",
                )
            case ast.Constant(value=str(text)) if text.lower() == name.lower() and _is_environment(tree, node):
                return (
                    f"`{name}` in line {node.lineno} is a variable of the environment",
                    f"write --env {text}=VALUE",
                )
    return None


def _computed(source: str, place: str, name: str, value: ast.expr) -> tuple[str, str]:
    shown = shorten(_text(source, value), 40)
    if isinstance(value, ast.Name):
        return f"{place} is `{shown}`", f"set that one: {shown}=VALUE"
    if isinstance(value, ast.Dict):
        return f"{place} is a dict: its keys are set one by one", "name one of its keys"
    kind = "is empty" if isinstance(value, (ast.List, ast.Tuple)) and not value.elts else f"is computed: {shown}"
    return f"{place} {kind}", f"write a plain value there, or assign one at top level ({name} = ...) and use it"


def _is_environment(tree: ast.Module, constant: ast.Constant) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=value, slice=inner) if inner is constant and last_name(value) == "environ":
                return True
            case ast.Call(func=func, args=[inner, *_]) if inner is constant and (
                last_name(func) == "getenv" or (isinstance(func, ast.Attribute) and last_name(func.value) == "environ")
            ):
                return True
    return False

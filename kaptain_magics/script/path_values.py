"""What paths the expressions of a script stand for, as far as its text tells: ``Path("data") / f"{name}.csv"``.

A path is a text with slashes, relative to the folder in which the script runs; ``WILD`` stands for what only the run
will know. So the example is ``data/<WILD>.csv``.
"""

from __future__ import annotations

import ast
import itertools
import posixpath
import re
from collections.abc import Iterable, Iterator

WILD = "\0"
_MANY = 16  # values of one expression that are followed
_LONGEST = 1024  # characters of a path
_DEEP = 24  # expressions within each other that are followed
_PATH_CLASSES = {"Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"}
_SAME = {"resolve", "absolute", "expanduser", "as_posix", "abspath", "realpath", "normpath", "fspath", "str", "iterdir"}
_WORKING_FOLDER = {"getcwd", "cwd"}
_MODULES = {"path", "osp", "posixpath"}  # what ``join`` is a path's with
_FORMAT = re.compile(r"%[-+ #0-9.*]*(?:\(\w+\))?[-+ #0-9.*]*[a-zA-Z]")
_BRACES = re.compile(r"\{[^{}]*\}")


class PathValues:
    """Evaluates the expressions of one script.

    Args:
        tree: The script.
        file: Its own path, which is what ``__file__`` stands for.
    """

    def __init__(self, tree: ast.Module, file: str) -> None:
        self._file = file
        self._assigned: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            for name, value in _bindings(node):
                self._assigned.setdefault(name, []).append(value)
        self._values: dict[str, list[str]] = {}  # of variables

    def assigned(self, name: str) -> bool:
        """Whether the values of a variable are known, so that its uses say what it is for."""
        return bool(self.of(ast.Name(name, ast.Load())))

    def of(self, node: ast.AST, depth: int = 0) -> list[str]:
        """Return the texts and paths that an expression may stand for; nothing where it is unknown."""
        if depth > _DEEP:
            return []
        match node:
            case ast.Constant(value=str(text)):
                return [text] if len(text) < _LONGEST and "\n" not in text and WILD not in text else []
            case ast.Name(id="__file__"):
                return [self._file]
            case ast.Name(id=name):
                if name not in self._values:
                    self._values[name] = []  # for what it is assigned by way of itself
                    values = (v for value in self._assigned.get(name, ())[:_MANY] for v in self.of(value, depth + 1))
                    self._values[name] = _few(values)
                return self._values[name]
            case ast.JoinedStr(values=parts):
                return _few("".join(words) for words in itertools.product(*(self._part(p, depth) for p in parts)))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                first, second = self.of(left, depth + 1), self.of(right, depth + 1)
                if not first and not second:
                    return []
                return _few(a + b for a, b in itertools.product(first or [WILD], second or [WILD]))
            case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod()):
                return [_FORMAT.sub(WILD, text)]
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._joined(self.of(left, depth + 1), [right], depth)
            case ast.IfExp(body=body, orelse=orelse):
                return _few([*self.of(body, depth + 1), *self.of(orelse, depth + 1)])
            case ast.BoolOp(values=values):
                return _few(v for value in values for v in self.of(value, depth + 1))
            case ast.Attribute(value=value, attr="parent"):
                return [_parent(path) for path in self.of(value, depth + 1)]
            case ast.Subscript(value=ast.Attribute(value=value, attr="parents"), slice=ast.Constant(value=int(number))):
                paths = self.of(value, depth + 1)
                for _ in range(min(number, 16) + 1):
                    paths = [_parent(path) for path in paths]
                return paths
            case ast.Call():
                return self._call(node, depth)
        return []

    def _call(self, node: ast.Call, depth: int) -> list[str]:
        match node.func:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _PATH_CLASSES:
                return self._joined(["."], node.args, depth)
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _WORKING_FOLDER and not node.args:
                return ["."]
            case ast.Attribute(
                value=ast.Attribute(attr="path") | ast.Name(id=("path" | "osp" | "posixpath")), attr=name
            ):
                if name == "join" and node.args:
                    return self._joined(self.of(node.args[0], depth + 1), node.args[1:], depth)
                if name == "dirname" and node.args:
                    return [posixpath.dirname(p) or _parent(p) for p in self.of(node.args[0], depth + 1)]
        match node.func:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _SAME and node.args:
                return self.of(node.args[0], depth + 1)
            case ast.Name(id="dirname") if node.args:
                return [posixpath.dirname(p) or _parent(p) for p in self.of(node.args[0], depth + 1)]
            case ast.Attribute(value=value, attr=name) if name in _SAME:
                return self.of(value, depth + 1)
            case ast.Attribute(value=value, attr="joinpath"):
                return self._joined(self.of(value, depth + 1), node.args, depth)
            case ast.Attribute(value=ast.Constant(value=str(text)), attr="format"):
                return [_BRACES.sub(WILD, text)]
            case ast.Attribute(value=value, attr=("glob" | "rglob") as name) if node.args:
                return self._globbed(value, node.args[0], name == "rglob", depth)
            case ast.Attribute(value=value, attr="with_name") if node.args:
                return self._joined([_parent(p) for p in self.of(value, depth + 1)], node.args, depth)
            case ast.Attribute(value=value, attr="with_suffix") if node.args:
                return [posixpath.splitext(p)[0] + WILD for p in self.of(value, depth + 1)]
        return []

    def _globbed(self, value: ast.expr, pattern: ast.expr, deep: bool, depth: int) -> list[str]:
        patterns = [p.replace("*", WILD).replace("?", WILD) for p in self.of(pattern, depth + 1)]
        if isinstance(value, ast.Name) and value.id == "glob":
            return patterns
        between = "**/" if deep else ""
        return _few(posixpath.join(p, between + q) for p in self.of(value, depth + 1) for q in patterns)

    def _joined(self, paths: list[str], parts: Iterable[ast.expr], depth: int) -> list[str]:
        for part in parts:
            if isinstance(part, ast.Starred):
                words = [WILD]
            else:
                words = self.of(part, depth + 1) or [WILD]
            paths = _few(posixpath.join(p, w) for p in paths for w in words)
        return paths

    def _part(self, node: ast.expr, depth: int) -> list[str]:
        """Return what a part of an f-string may be."""
        if isinstance(node, ast.FormattedValue):
            plain = node.format_spec is None and node.conversion == -1
            return (self.of(node.value, depth + 1) if plain else []) or [WILD]
        return self.of(node, depth + 1) or [WILD]


def call_name(node: ast.Call) -> str:
    """Return the last part of the name of what is called, such as ``read_csv``; empty where it has none."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def is_path_module(node: ast.AST) -> bool:
    """Whether an expression is ``os.path`` under one of its usual names."""
    return (isinstance(node, ast.Attribute) and node.attr == "path") or (
        isinstance(node, ast.Name) and node.id in _MODULES
    )


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the variables that a statement binds to an expression, or to each one of a list."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                match target, value:
                    case ast.Name(id=name), _:
                        yield name, value
                    case ast.Tuple(elts=names), ast.Tuple(elts=values) if len(names) == len(values):
                        yield from ((n.id, v) for n, v in zip(names, values, strict=True) if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.NamedExpr(target=ast.Name(id=name), value=value):
            yield name, value
        case (ast.For() | ast.comprehension()) as loop if isinstance(loop.target, ast.Name):
            if isinstance(loop.iter, ast.List | ast.Tuple | ast.Set):
                yield from ((loop.target.id, value) for value in loop.iter.elts)
        case ast.FunctionDef(args=arguments) | ast.AsyncFunctionDef(args=arguments):
            positional = [*arguments.posonlyargs, *arguments.args]
            defaults = arguments.defaults
            yield from zip((a.arg for a in positional[len(positional) - len(defaults) :]), defaults, strict=True)
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
                if default is not None:
                    yield argument.arg, default


def _parent(path: str) -> str:
    """Return the folder above a path; of the working folder itself the one above that."""
    normal = posixpath.normpath(path)
    if normal == "." or normal.split("/")[-1] == "..":
        return posixpath.normpath(posixpath.join(normal, ".."))
    return posixpath.dirname(normal) or "."


def _few(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in itertools.islice(values, _MANY) if len(value) < _LONGEST))

"""Which paths a script uses, and whether it reads or writes them: found in its syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import NamedTuple

from kaptain_magics.script.path_values import WILD, PathValues, call_name, is_path_module

_WRITES = re.compile(
    r"^(to_|save|dump|write|export|store|sink_|imwrite|imsave|savez|mkdir|makedirs|touch|unlink|remove|rmdir|rmtree)"
    r"|^(savefig|FileHandler|RotatingFileHandler|SummaryWriter|ModelCheckpoint|CSVLogger|TensorBoard|plot_model)$"
    r"|_(save|dump|write)$"
)
_FOLDERS = {"mkdir", "makedirs"}
_COPIES = {"copy", "copy2", "copyfile", "copytree", "move", "rename", "replace", "urlretrieve"}
_MODED = re.compile(r"^(open|File|ZipFile|TarFile|HDFStore|memmap|open_group|open_memmap|LMDB)$")
_MODE = re.compile(r"[rwax][btU+\-]{0,3}(?:[:|]\w*)?")
_DATABASES = {"connect"}
_NO_PATHS = {"getattr", "hasattr", "setattr", "delattr", "get", "pop", "print", "format", "startswith", "endswith"}
_BARE_READS = re.compile(
    r"read|load|open|list|scan|walk|glob|folder|dir|path|file|data|from_|fetch|import|exists|^[A-Z]"
)


class PathUse(NamedTuple):
    """A path that a script names.

    Attributes:
        path: Relative to the folder that the script runs in; ``WILD`` stands for what is not known.
        reads: Whether what is there may be read.
        writes: Whether it may be written.
        certain: Whether this use comes to pass whenever the script runs.
        folder: Whether it is made as a folder.
    """

    path: str
    reads: bool = True
    writes: bool = False
    certain: bool = False
    folder: bool = False


def path_uses(tree: ast.Module, file: str) -> list[PathUse]:
    """Return the uses of paths in the order in which they are written.

    A path that is held by a variable is used where the variable is. Keys, comparisons and docstrings are no paths.

    Args:
        tree: The script.
        file: Its own path, which is what ``__file__`` stands for.
    """
    finder = _Finder(PathValues(tree, file))
    for statement in tree.body:
        finder.visit(statement, PathUse("", certain=True))
    return finder.uses


def added_search_folders(tree: ast.Module, file: str) -> list[str]:
    """Return the relative folders that a script puts on ``sys.path``."""
    values = PathValues(tree, file)
    folders: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="path"), attr="append" | "insert"), args=[*_, last]
            ):
                folders += values.of(last)
            case ast.Call(func=ast.Attribute(attr="addsitedir"), args=[first, *_]):
                folders += values.of(first)
    return [folder for folder in dict.fromkeys(folders) if WILD not in folder and not folder.startswith(("/", "~"))]


class _Finder:
    def __init__(self, values: PathValues) -> None:
        self._values = values
        self.uses: list[PathUse] = []

    def visit(self, node: ast.AST, role: PathUse) -> None:
        """Look at a node whose value is used as ``role`` says; its path is empty."""
        paths = self._values.of(node) if isinstance(node, ast.expr) else []
        if paths:
            bare = isinstance(node, ast.Constant)
            self._add((p for p in paths if not bare or "/" in p or "." in p or role.folder), role)
            return
        match node:
            case ast.Call():
                self._call(node, role)
            case ast.Assign(targets=targets, value=value):
                known = all(isinstance(t, ast.Name) for t in targets) and self._values.of(value)
                if not known:
                    self.visit(value, role)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                if not (isinstance(target, ast.Name) and self._values.of(value)):
                    self.visit(value, role)
            case ast.ClassDef(body=body):
                for part in body:  # its variables are used as attributes, which are not followed
                    held = part.value if isinstance(part, ast.Assign | ast.AnnAssign) else None
                    self.visit(held or part, PathUse(""))
            case ast.arguments():
                defaults = [*node.defaults, *(d for d in node.kw_defaults if d is not None)]
                self._all((d for d in defaults if not self._values.of(d)), role)  # the others are used by their names
            case ast.Expr(value=ast.Constant()) | ast.Compare(comparators=[ast.Constant()]):
                pass
            case ast.Dict(values=values):
                self._all(values, role)
            case ast.Subscript(value=value, slice=index):
                self.visit(value, role)
                if not isinstance(index, ast.Constant):
                    self.visit(index, role)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.If() | ast.Try() | ast.For() | ast.While():
                self._all(ast.iter_child_nodes(node), PathUse(""))
            case _:
                self._all(ast.iter_child_nodes(node), PathUse("", certain=role.certain))

    def _all(self, nodes: Iterable[ast.AST], role: PathUse) -> None:
        for node in nodes:
            self.visit(node, role)

    def _call(self, node: ast.Call, role: PathUse) -> None:
        name, plain = call_name(node), PathUse("", certain=role.certain)
        own = self._role(node, name)._replace(certain=role.certain)
        if isinstance(node.func, ast.Attribute) and not is_path_module(node.func.value):
            self.visit(node.func.value, own)  # Path("x").write_text(...)
        if name in _NO_PATHS:
            own = plain
        bare_counts = bool(_BARE_READS.search(name)) and name not in _NO_PATHS
        for number, argument in enumerate(node.args):
            used = own
            if name in _COPIES:
                used = plain if number == 0 else own._replace(reads=False, writes=True)
            if bare_counts and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                self._add(self._values.of(argument), used)
            else:
                self.visit(argument, used)
        for keyword in node.keywords:
            self.visit(keyword.value, own if keyword.arg not in ("mode", "encoding", "sep") else plain)

    def _add(self, paths: Iterable[str], role: PathUse) -> None:
        self.uses += [role._replace(path=path) for path in paths if path]

    def _role(self, node: ast.Call, name: str) -> PathUse:
        if name in _DATABASES:
            return PathUse("", reads=True, writes=True)
        mode = _mode(node, name)
        if mode:
            changes = "+" in mode or mode[0] == "a"
            return PathUse("", reads=mode[0] == "r" or changes, writes=mode[0] != "r" or changes)
        if _WRITES.search(name):
            return PathUse("", reads=False, writes=True, folder=name in _FOLDERS)
        return PathUse("")


def _mode(node: ast.Call, name: str) -> str:
    """Return the mode in which a file is opened; empty where the call says none."""
    candidates = [k.value for k in node.keywords if k.arg == "mode"]
    if _MODED.match(name):
        of_method = isinstance(node.func, ast.Attribute) and len(node.args) == 1
        candidates += node.args[:1] if of_method else node.args[1:3]
    for value in candidates:
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and _MODE.fullmatch(value.value):
            return value.value
    return ""

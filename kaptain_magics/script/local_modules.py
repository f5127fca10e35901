"""Modules of one's own: files and packages beside the notebook that a script imports, and those that they import."""

from __future__ import annotations

import ast
import importlib.machinery as machinery
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_LOADERS = (
    (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
    (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
    (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
)
_OURS = {"kaptain", "kaptain_magics"}
_MANY = 500  # files of a package that are looked through


class LocalModule(NamedTuple):
    """A module beside the notebook.

    Attributes:
        name: Its name, or that of the package that it is in.
        path: Its file, or the package's folder.
        root: The folder on the search path in which it lies.
    """

    name: str
    path: Path
    root: Path


def imported_roots(tree: ast.AST) -> list[str]:
    """Return the first parts of the names of all modules that a script imports anywhere, in functions too."""
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name.partition(".")[0]: None for alias in aliases}
            case ast.ImportFrom(module=str(module), level=0):
                names[module.partition(".")[0]] = None
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__"), args=[ast.Constant(value=str(module)), *_]
            ) | (ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(module)), *_])):
                names[module.lstrip(".").partition(".")[0]] = None
    return [name for name in names if name not in _OURS and name not in sys.stdlib_module_names]


def find_module(name: str, roots: Sequence[Path]) -> LocalModule | None:
    """Return the module of that name in the first folder that has it; ``None`` where an installed one is meant.

    A folder without ``__init__.py`` is a package only where no installed module has its name, as Python sees it.
    """
    for root in roots:
        spec = machinery.FileFinder(str(root), *_LOADERS).find_spec(name)
        if spec is None:
            continue
        if spec.origin is not None:
            path = Path(spec.origin)
            return LocalModule(name, path.parent if spec.submodule_search_locations else path, root)
        if not _is_installed(name, roots) and any((root / name).rglob("*.py")):
            return LocalModule(name, root / name, root)
    return None


def _is_installed(name: str, roots: Sequence[Path]) -> bool:
    elsewhere = [entry for entry in sys.path if entry and Path(entry) not in roots]
    try:
        spec = machinery.PathFinder.find_spec(name, elsewhere)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def sources(module: LocalModule) -> Iterator[tuple[Path, ast.Module]]:
    """Yield the Python files of a module or package, parsed; those that do not parse are passed over."""
    files: Iterable[Path] = [module.path] if module.path.is_file() else sorted(module.path.rglob("*.py"))[:_MANY]
    for file in files:
        if file.suffix == ".py":
            try:
                yield file, ast.parse(file.read_bytes(), str(file))
            except (OSError, SyntaxError, ValueError, RecursionError):
                continue

"""What a script uses beside the notebook: files, folders and modules of one's own, found by looking at its text.

One analysis for all targets. A path counts where the script names it and it exists; what only the run will know
(``f"data/{name}.csv"``) stands for everything that fits. Modules are followed through those that they import.
"""

from __future__ import annotations

import ast
import filecmp
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kaptain_magics.core.scripts import Input, InputRole, Script
from kaptain_magics.errors import ScriptError
from kaptain_magics.runtime.beside import SKIPPED
from kaptain_magics.script.local_modules import LocalModule, find_module, imported_roots, sources
from kaptain_magics.script.path_uses import PathUse, added_search_folders, path_uses
from kaptain_magics.script.path_values import WILD

_MANY = 200  # files that fit a pattern; where there are more, their whole folder is taken
_LOOKED_AT = 20_000  # files of a folder that are counted
_ABOVE = 5  # folders above the notebook's that a path may begin in
_LITERAL = re.compile(r"[^\W_]")


class Inputs(NamedTuple):
    """What a script uses beside the notebook.

    Attributes:
        items: Files, folders and modules.
        place: Folder below the job's working folder that the script must run in; see ``JobSpec.place``.
        lists_folder: Whether it lists the notebook's folder itself, all of which may be meant.
    """

    items: tuple[Input, ...] = ()
    place: str = ""
    lists_folder: bool = False


def find_inputs(script: Script) -> Inputs:
    """Find what a script uses in its folders.

    Raises:
        ScriptError: A path is in two of the folders, and the files differ.
    """
    folders = [Path(folder) for folder in script.folders if Path(folder).is_dir()]
    if not folders:
        return Inputs()
    try:
        tree = ast.parse(script.source)
        return _Search(script, folders).run(tree)
    except (SyntaxError, ValueError, RecursionError):
        return Inputs()


class _Search:
    def __init__(self, script: Script, folders: list[Path]) -> None:
        self._script, self._folders = script, folders
        self._modules: dict[Path, tuple[str, LocalModule]] = {}
        self._roots = [folders[0]]

    def run(self, tree: ast.Module) -> Inputs:
        added = added_search_folders(tree, self._script.name)
        self._roots += [Path(os.path.normpath(folder / path)) for folder in self._folders for path in added]
        uses = path_uses(tree, self._script.name)
        uses += self._follow(tree)
        depth = max((_ups(path) for path in [*added, *(use.path for use in uses)]), default=0)
        depth = min(depth, _ABOVE, *(len(folder.parts) - 1 for folder in self._folders))
        place = "/".join(self._folders[0].parts[len(self._folders[0].parts) - depth :]) if depth else ""
        items: dict[str, Input] = {}
        for use in _needed(uses):
            matches = list(self._matches(use.path)) if use.reads else []
            for relative, source in matches:
                change = use.writes and source.is_file()
                self._add(items, place, relative, source, InputRole.CHANGE if change else InputRole.READ)
            if not matches:
                self._add_folder(items, place, posixpath.dirname(use.path.partition(WILD)[0]))
        for relative, module in self._modules.values():
            self._add(items, place, relative, module.path, InputRole.MODULE)
        lists = any(posixpath.normpath(use.path) == "." and use.reads for use in uses)
        return Inputs(tuple(_outermost(items)), place, lists)

    def _follow(self, tree: ast.Module) -> list[PathUse]:
        """Find the modules that a script imports, and return the paths that those use."""
        uses: list[PathUse] = []
        waiting = imported_roots(tree)
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            module = None if name in seen else find_module(name, self._roots)
            seen.add(name)
            if module is None:
                continue
            self._modules[module.path] = (self._relative(module.path), module)
            for file, parsed in sources(module):
                waiting += imported_roots(parsed)
                uses += path_uses(parsed, self._relative(file))
        return uses

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._folders[0])).as_posix()

    def _matches(self, path: str) -> Iterator[tuple[str, Path]]:
        """Yield what a path stands for, each relative to the folder that the script runs in."""
        if path.startswith(("/", "~")) or "://" in path or not _LITERAL.search(path):
            return
        path = posixpath.normpath(path)
        for folder in self._folders:
            if WILD in path or "*" in path:
                for source in _fitting(folder, path):
                    yield Path(os.path.relpath(source, folder)).as_posix(), source
            elif (folder / path).exists():
                yield path, Path(os.path.normpath(folder / path))

    def _add_folder(self, items: dict[str, Input], place: str, relative: str) -> None:
        """Let a script write files into a folder that is there; it is empty in the job."""
        if relative.startswith(("/", "~")) or "://" in relative or not _LITERAL.search(relative):
            return
        path = posixpath.normpath(posixpath.join(place, relative))
        if not path.startswith("..") and any((folder / relative).is_dir() for folder in self._folders):
            items.setdefault(path, Input(path=path, source="", role=InputRole.FOLDER, count=0))

    def _add(self, items: dict[str, Input], place: str, relative: str, source: Path, role: InputRole) -> None:
        path = posixpath.normpath(posixpath.join(place, relative))
        if path.startswith("..") or path == "." or path == posixpath.join(place, self._script.name):
            return
        known = items.get(path)
        if known is not None and known.source and not source.samefile(known.source):
            if not (source.is_file() and filecmp.cmp(known.source, source, shallow=False)):
                raise ScriptError(
                    f"{relative} is in two folders beside the script: {known.source} and {source}",
                    "write in the script which one is meant, with its whole path",
                )
            return
        if known is not None and known.role is InputRole.CHANGE:
            role = InputRole.CHANGE
        size, count, modified = measure(source)
        items[path] = Input(path=path, source=str(source), role=role, size=size, count=count, modified=modified)


def measure(path: Path) -> tuple[int, int, int]:
    """Return bytes, files and the newest change (ns) of a file or of everything in a folder."""
    size = count = modified = 0
    for file in walk_files(path):
        try:
            status = file.stat()
        except OSError:
            continue
        size, count, modified = size + status.st_size, count + 1, max(modified, status.st_mtime_ns)
        if count >= _LOOKED_AT:
            break
    return size, count, modified


def walk_files(path: Path) -> Iterator[Path]:
    """Yield a file itself, or the files in a folder but for caches and repositories' own."""
    if path.is_file():
        yield path
        return
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name not in SKIPPED)
        yield from (Path(folder, name) for name in sorted(files) if name not in SKIPPED and not name.endswith(".pyc"))


def _needed(uses: list[PathUse]) -> Iterator[PathUse]:
    """Yield each path once: with whether it is read, which one is not that is surely written first."""
    by_path: dict[str, PathUse] = {}
    for use in uses:
        path = use.path if WILD in use.path else posixpath.normpath(use.path)
        before = by_path.get(path)
        if before is None:
            by_path[path] = use
        elif before.reads or not before.certain:
            by_path[path] = before._replace(
                reads=before.reads or use.reads, writes=before.writes or use.writes, certain=False
            )
    yield from by_path.values()


def _fitting(folder: Path, path: str) -> list[Path]:
    """Return what fits a pattern; the whole folder before its first unknown part where that is very much."""
    head = posixpath.dirname(path.partition(WILD)[0].partition("*")[0])
    tail = path[len(head) :].lstrip("/")
    pattern = re.sub(f"[{WILD}*]+", "*", tail) if "**/" not in tail else tail.replace(WILD, "*")
    try:
        fitting = []
        for source in (folder / head).glob(pattern):
            if source.name in SKIPPED or (source.name.startswith(".") and not tail.startswith(".")):
                continue
            fitting.append(source)
            if len(fitting) > _MANY and head:
                return [folder / head]
        return sorted(fitting)
    except (OSError, ValueError, NotImplementedError):
        return []


def _outermost(items: dict[str, Input]) -> Iterator[Input]:
    """Yield what does not lie in a folder that is taken as a whole; what is written to or imported stays by name."""
    for path, item in sorted(items.items()):
        above = [items[parent] for parent in map(str, Path(path).parents) if parent in items]
        inside = any(other.role in (InputRole.READ, InputRole.MODULE) for other in above)
        if not inside or item.role in (InputRole.CHANGE, InputRole.MODULE):
            yield item


def _ups(path: str) -> int:
    parts = posixpath.normpath(path).split("/")
    return sum(part == ".." for part in parts)

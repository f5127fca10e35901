"""What a pickle needs at its other end: modules beside the script, and the script's own code, which goes by value.

A server imports installed packages and the modules that are saved beside the model. It cannot import the script, so the
classes and functions of ``__main__`` (and lambdas of any module) are pickled by value: their code is in the file. Such
a file fits one minor version of Python only.
"""

from __future__ import annotations

import ast
import importlib
import io
import pickle
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import Description, versions

BY_VALUE = "cloudpickle"
"""The format of a pickle with the script's own code in it."""

_NEVER_LOCAL = ("__main__", "kaptain", "kaptain_magics")
_WORTH_A_WORD = 10 << 20  # bytes of a variable from which on its size is named


class Contents(NamedTuple):
    """What is in the pickle of an object.

    Attributes:
        by_value: Whether code has to be in it, because names are not enough.
        own: The classes and functions that this is for, as people name them.
        variables: Global variables that this code uses and that go along, with their bytes where those are many.
        modules: Files and packages beside the script that it imports.
        packages: The other packages that it imports.
    """

    by_value: bool = False
    own: tuple[str, ...] = ()
    variables: Mapping[str, int] = MappingProxyType({})
    modules: frozenset[Path] = frozenset()
    packages: frozenset[str] = frozenset()

    def describe(self, description: Description) -> None:
        """Write down what goes along, and the versions of the packages that it needs."""
        named = sorted(self.packages)
        if self.by_value:
            description.details["by_value"] = {"code": list(self.own), "variables": dict(self.variables)}
            named += _cloudpickle_names()
        description.versions = {**description.versions, **versions(*named)}


def examine(model: object) -> Contents:
    """Return what the pickle of ``model`` needs at its other end.

    Raises:
        ExportError: It cannot be pickled, or its code cannot be pickled by value here.
    """
    seen = _Seen()
    failure: Exception | None = None
    try:
        _collector(pickle.Pickler, seen).dump(model)
    except Exception as error:  # lambdas and local classes end here; so does whatever a class raises that refuses
        failure = error
    else:
        if not seen.script:
            return Contents(modules=_local_files(seen.modules), packages=_installed(seen.modules))
    pickler = _cloudpickle(model, seen, failure)
    seen = _Seen()
    try:
        size = _collector(pickler.Pickler, seen).dump(model)
    except Exception as error:  # a class may raise anything when it refuses
        raise _not_pickled(model, error) from None
    variables = dict(sorted(seen.variables().items()))
    sizes = {name: _size(pickler, value) if size > _WORTH_A_WORD else 0 for name, value in variables.items()}
    return Contents(
        True,
        tuple(sorted(seen.own)),
        {name: bytes_ if bytes_ > _WORTH_A_WORD else 0 for name, bytes_ in sizes.items()},
        _local_files(seen.modules),
        _installed(seen.modules),
    )


def cloudpickle() -> types.ModuleType:
    """Return cloudpickle, or the copy of it that joblib brings.

    Raises:
        ModuleNotFoundError: There is neither.
    """
    for name in ("cloudpickle", "joblib.externals.cloudpickle"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("No module named 'cloudpickle'", name="cloudpickle")


def dump_by_value(model: object, file: Path) -> None:
    """Pickle an object with the code of the script that it uses."""
    with open(file, "wb") as stream:
        cloudpickle().dump(model, stream)


def _cloudpickle(model: object, seen: _Seen, failure: Exception | None) -> types.ModuleType:
    try:
        return cloudpickle()
    except ModuleNotFoundError:
        if failure is not None:
            raise _not_pickled(model, failure) from None
        raise ExportError(
            f"this {type(model).__name__} uses {', '.join(sorted(seen.own))} of the script itself,"
            " which a server cannot import, and cloudpickle is not installed here",
            "add --requirements cloudpickle; or write it to a file of its own (%%writefile steps.py) and import it",
        ) from None


def _not_pickled(model: object, error: Exception) -> ExportError:
    return ExportError(
        f"this {type(model).__name__} cannot be pickled: {error}",
        "remove what cannot be pickled (open files, locks, connections), or save it in its library's own format",
    )


def _cloudpickle_names() -> tuple[str, ...]:
    return ("cloudpickle",) if "cloudpickle" in sys.modules else ("joblib",)


# ---- looking into a pickle -----------------------------------------------------------------------------------------


class _Counter(io.RawIOBase):
    """A file that keeps nothing but the number of bytes."""

    count = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.count += size
        return size


class _Seen:
    """Where the classes and functions of a pickle come from."""

    def __init__(self) -> None:
        self.own: set[str] = set()
        self.script = False  # whether some are of the script itself
        self.modules: set[str] = set()
        self._functions: list[types.FunctionType] = []

    def take(self, obj: Any) -> None:
        if isinstance(obj, types.ModuleType):
            self.modules.add(obj.__name__.partition(".")[0])
            return
        kind = obj if isinstance(obj, (type, types.FunctionType)) else type(obj)
        module, name = str(kind.__module__), kind.__qualname__
        if module != "__main__" and "<" not in name:
            self.modules.add(module.partition(".")[0])
            return
        self.own.add(_spelled(kind))
        self.script = self.script or module == "__main__"
        if isinstance(kind, types.FunctionType):
            self._functions.append(kind)

    def variables(self) -> dict[str, Any]:
        """Return the data among the global variables that the functions use."""
        code = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType)
        return {
            name: function.__globals__[name]
            for function in self._functions
            for name in _names(function.__code__)
            if name in function.__globals__ and not isinstance(function.__globals__[name], code)
        }


def _spelled(kind: type | types.FunctionType) -> str:
    """Return how a message names a class or function: ``class Ratio``, ``function scale``, ``a lambda``."""
    if kind.__name__ == "<lambda>":
        return (
            f"a lambda in line {kind.__code__.co_firstlineno}" if isinstance(kind, types.FunctionType) else "a lambda"
        )
    if isinstance(kind, type):
        return f"class {kind.__name__}"
    owner = kind.__qualname__.rpartition(".")[0]
    inside = owner and not owner.endswith("<locals>")
    return f"class {owner.rpartition('.')[2]}" if inside else f"function {kind.__name__}"


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the global names that a function uses, and those of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _collector(pickler: Any, seen: _Seen) -> Any:
    """Return a pickler that writes nothing, tells ``seen`` what it meets, and returns the number of bytes."""
    counter = _Counter()

    class Collector(pickler):  # type: ignore[misc]
        def persistent_id(self, obj: Any) -> None:
            seen.take(obj)

        def dump(self, obj: Any) -> int:
            super().dump(obj)
            return counter.count

    return Collector(counter, pickle.HIGHEST_PROTOCOL)


def _size(pickler: Any, value: Any) -> int:
    counter = _Counter()
    pickler.Pickler(counter, pickle.HIGHEST_PROTOCOL).dump(value)
    return counter.count


# ---- modules -------------------------------------------------------------------------------------------------------


def _installed(names: set[str]) -> frozenset[str]:
    standard = {*sys.stdlib_module_names, *_NEVER_LOCAL}
    return frozenset(name for name in names - standard if _local(name) is None)


def _local_files(names: set[str]) -> frozenset[Path]:
    """Return the files of the modules that are not installed, and of those that they import."""
    files: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        path = _local(name) if name not in files else None
        if path is not None:
            files[name] = path
            waiting += _imported(path)
    return frozenset(files.values())


def _imported(path: Path) -> Iterator[str]:
    """Yield the top-level names of what a module's file, or a package's files, import."""
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name.partition(".")[0] for alias in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module.partition(".")[0]


def _local(name: str) -> Path | None:
    """Return the file or package of a top-level module that is not installed."""
    if name in _NEVER_LOCAL:
        return None
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or is_installed(Path(file)):
        return None
    return Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def is_installed(file: Path) -> bool:
    """Whether a module's file belongs to Python or to an installed package."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return True
    return any(file.is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))

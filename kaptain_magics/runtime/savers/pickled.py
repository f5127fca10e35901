"""What a pickle needs at its other end: the script's own definitions, which cannot be imported, and its modules."""

from __future__ import annotations

import io
import pickle
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.job_errors import ExportError


def local_modules(model: object) -> set[Path]:
    """Return the files and packages beside the script that an unpickled ``model`` would import.

    Raises:
        ExportError: It uses something that is defined in the script itself, or cannot be pickled at all.
    """
    collector = _ReferenceCollector(_NullWriter(), pickle.HIGHEST_PROTOCOL)
    try:
        collector.dump(model)
    except Exception as error:  # what a class of anybody raises when it refuses
        raise ExportError(
            f"this {type(model).__name__} cannot be pickled: {error}",
            "remove what cannot be pickled (open files, locks, lambdas), or save it in its library's own format",
        ) from None
    if collector.own:
        raise ExportError(
            f"this {type(model).__name__} uses {', '.join(sorted(collector.own))} of the script itself,"
            " which a server cannot import",
            "write it to a file of its own (%%writefile steps.py) and import it from there",
        )
    return {path for name in collector.modules if (path := _local(name))}


class _NullWriter(io.RawIOBase):
    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


class _ReferenceCollector(pickle.Pickler):
    """Pickles to nowhere and notes where the classes and functions come from."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.own: set[str] = set()
        self.modules: set[str] = set()

    def persistent_id(self, obj: Any) -> None:
        kind = obj if isinstance(obj, (type, types.FunctionType)) else type(obj)
        if kind.__module__ == "__main__":
            self.own.add(kind.__qualname__)
        else:
            self.modules.add(str(kind.__module__).partition(".")[0])


def _local(name: str) -> Path | None:
    """Return the file or package of a top-level module that is not installed."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or is_installed(Path(file)):
        return None
    return Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def is_installed(file: Path) -> bool:
    """Whether a module's file belongs to Python or to an installed package."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return True
    return any(file.is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))

"""Plain Python: a file with ``predict(inputs)``, or with a class that has it; for everything that has no saver.

The file is saved, never an object's state: what a predictor needs it reads in ``load(folder)`` from the files saved
beside it (``extra_files``). A function, a class or an object of the script itself has no file that a server can import:
it is pickled by value, as ``model.pkl``.

* ``predict(inputs)`` gets a dict of NumPy arrays by name and returns one array, or a dict of arrays by name.
* ``load(folder)``, if there is one, is called once before, with the folder's ``pathlib.Path``.
"""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import Description, SaveOptions, copy_into, tensors, versions
from kaptain_magics.runtime.savers.pickled import BY_VALUE, dump_by_value, examine

FORMATS = ("py",)


def save(model: Any, folder: Path, options: SaveOptions) -> Description:
    """Save a path to a Python file, a module, a function, a class, or an object of a class without state."""
    options.choose("Python", FORMATS)
    if _module_of(model) == "__main__" or "<" in str(getattr(model, "__qualname__", "")):
        return _save_by_value(model, folder, options)
    source, entry = _source(model)
    shutil.copy2(source, folder / "model.py")
    description = Description("python", "py", "model.py", kind=entry)
    if entry:
        description.details["entry"] = entry
    if options.example is not None:
        description.inputs = tensors(options.example, "input")
    return description


def _module_of(model: Any) -> str:
    if isinstance(model, (str, Path, types.ModuleType)):
        return ""
    kind = model if isinstance(model, (type, types.FunctionType)) else type(model)
    return str(kind.__module__)


def _save_by_value(model: Any, folder: Path, options: SaveOptions) -> Description:
    contents = examine(model)
    dump_by_value(model, folder / "model.pkl")
    taken = {path.name for path in options.extra_files}
    copy_into(folder, [path for path in contents.modules if path.name not in taken])
    kind = getattr(model, "__name__", type(model).__name__)
    description = Description("python", BY_VALUE, "model.pkl", kind=kind, versions=versions())
    contents.describe(description)
    if options.example is not None:
        description.inputs = tensors(options.example, "input")
    return description


def _source(model: Any) -> tuple[Path, str]:
    """Return the file, and the name in it of the predictor; empty for the file's own ``predict``."""
    if isinstance(model, (str, Path)):
        return Path(model), ""
    if isinstance(model, types.ModuleType):
        module, entry = model.__name__, ""
    elif isinstance(model, (type, types.FunctionType)):
        module, entry = model.__module__, model.__qualname__
    else:
        module, entry = type(model).__module__, type(model).__qualname__
        if getattr(model, "__dict__", None):
            raise ExportError(
                f"this {entry} has state ({', '.join(sorted(vars(model))[:5])}), which a Python file cannot hold",
                "save the state to a file, name it in extra_files, and read it in load(folder)",
            )
    file = getattr(sys.modules.get(module), "__file__", None)
    if module == "__main__" or file is None or not file.endswith(".py") or "." in entry:
        raise ExportError(
            f"{entry or module} is not at the top level of a Python file that a server can import",
            'write the predictor to a file of its own (%%writefile predictor.py): save_model("predictor.py")',
        )
    return Path(file), entry

"""Models that no server can load: kept all the same, by whatever can write them, with the reason and the next step."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import UNSERVABLE, Description, versions
from kaptain_magics.runtime.savers.guess import framework_of
from kaptain_magics.runtime.savers.pickled import BY_VALUE, cloudpickle

_PLAIN = (type(None), bool, int, float, complex, str, bytes, os.PathLike)  # nobody trains these
_LARGE = 10 << 20  # bytes of a variable that goes along from which on it is worth a warning


def keep(model: Any, folder: Path, why: ExportError) -> Description:
    """Write an object that cannot be served into ``folder``, which is empty, and why it cannot.

    Args:
        model: The object.
        folder: An empty folder.
        why: What the saver said.

    Raises:
        ExportError: It is no object of a training, or nothing can write it.
    """
    if is_plain(model):
        raise why
    for name, write in _WRITERS.items():
        file = folder / f"model.{'pt' if name == 'torch' else 'pkl'}"
        try:
            with open(file, "wb") as stream:
                write(model, stream)
        except Exception:  # a class may raise anything, or the writer is not installed
            file.unlink(missing_ok=True)
            continue
        kind = type(model)
        description = Description(framework_of(model) or "python", UNSERVABLE, file.name, kind=kind.__name__)
        description.versions = versions(name, kind.__module__.partition(".")[0])
        description.details = {"why": why.message, "hint": why.hint, "written_by": name}
        description.write(folder)
        return description
    raise why


def is_plain(model: Any) -> bool:
    """Whether an object is a plain value, such as a number, which is no model."""
    return isinstance(model, _PLAIN)


def _by_value(model: Any, stream: BinaryIO) -> None:
    cloudpickle().dump(model, stream)


def _with_torch(model: Any, stream: BinaryIO) -> None:
    """Write a module's weights, or an object of tensors."""
    torch = sys.modules["torch"]
    torch.save(model.state_dict() if hasattr(model, "state_dict") else model, stream)


def _with_joblib(model: Any, stream: BinaryIO) -> None:
    importlib.import_module("joblib").dump(model, stream)


_WRITERS: dict[str, Callable[[Any, BinaryIO], None]] = {
    "cloudpickle": _by_value,
    "joblib": _with_joblib,
    "pickle": pickle.dump,
    "torch": _with_torch,
}


def notes_of(description: Description) -> Iterator[dict[str, Any]]:
    """Yield what is to be said of a saved model, as notes of the channel: text, hint, and whether it is a warning."""
    details = description.details
    if description.format == UNSERVABLE:
        yield {
            "text": f"the model is kept ({description.model}), but no server can load it: {details['why']}",
            "hint": details["hint"],
            "warning": True,
        }
        return
    by_value = details.get("by_value")
    if by_value is None:
        return
    code, variables = ", ".join(by_value["code"]), by_value["variables"]
    tool = f"{BY_VALUE} {description.versions.get(BY_VALUE, '')}".rstrip()
    python = ".".join(description.versions["python"].split(".")[:2])
    along = f", with the variables {', '.join(variables)}" if variables else ""
    yield {
        "text": f"saved by value ({tool}, Python {python}): code of the script ({code}){along}; less safe than a module"
        " of its own, because loading the model runs this code",
        "hint": "to save names instead of code, write it to a file (%%writefile steps.py) and import it from there",
    }
    for name, size in variables.items():
        if size >= _LARGE:
            yield {
                "text": f"the variable {name}, which the saved code uses, is {size / 1e6:,.0f} MB of the model",
                "hint": "give the code only what it needs of it: a smaller value, or an argument",
                "warning": True,
            }

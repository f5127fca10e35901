"""What the saver wrote down of a model (``kaptain-model.json``), and what loaders of a folder share."""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from kaptain_magics.errors import InferenceError, ServingError
from kaptain_magics.runtime.fitted import INPUTS_FILE, FittedOn
from kaptain_magics.runtime.savers.base import UNSERVABLE, Description
from kaptain_magics.runtime.threads import available_cores
from kaptain_magics.serving.signature import Array, Signature, TensorSpec

_log = logging.getLogger(__name__)
_FEW = 64  # rows that one thread predicts before a second one wakes up


def read_description(folder: Path) -> Description:
    """Return the description in a model's folder; an empty one where the model was saved without.

    Raises:
        ServingError: The file is not a description.
    """
    try:
        return Description.read(folder) or Description("", "", "")
    except ValueError as error:
        raise ServingError(str(error), "save the model again with kaptain.save_model") from None


def check_loadable(description: Description) -> None:
    """Refuse what no server can load here: a model that was only kept, or code for another Python.

    Raises:
        ServingError: The model is such a one.
    """
    if description.format == UNSERVABLE:
        raise ServingError(
            f"the model was kept, but cannot be served: {description.details.get('why', '')}",
            description.details.get("hint", ""),
        )
    saved, here = description.versions.get("python", ""), platform.python_version()
    if "by_value" in description.details and saved and _series(saved) != _series(here):
        raise ServingError(
            f"the model holds code that Python {saved} compiled, and here is Python {here}",
            "serve it with the Python that trained it (--base-image), or import that code from a file (%%writefile)",
        )


def unpickle(path: Path) -> Any:
    """Load a pickle whose checksum was compared; its code runs.

    Raises:
        ServingError: It needs what is not here, or raises.
    """
    try:
        with open(path, "rb") as file:
            return pickle.load(file)
    except ModuleNotFoundError as error:
        raise ServingError(
            f"{path.name} needs the module {error.name}, which is not installed here",
            "add it to the requirements of the deployment, or save it with extra_files",
        ) from error
    except Exception as error:  # a pickle may raise anything
        raise ServingError(
            f"{path.name} cannot be loaded: {type(error).__name__}: {error}",
            "serve it with the versions that saved it, or save it again",
        ) from error


def read_inputs(folder: Path, width: int | None, names: Sequence[str] = ()) -> FittedOn | None:
    """Return what the model in a folder was fitted on; ``None`` where that was not seen, or was another model.

    Args:
        folder: The model's folder.
        width: How many features the model has; ``None`` or -1 where that is not known, 0 of a loaded CatBoost model.
        names: Their names; empty where it has none.

    Raises:
        ServingError: The file cannot be read.
    """
    try:
        fitted = FittedOn.read(folder)
    except ValueError as error:
        raise ServingError(str(error), "save the model again with kaptain.save_model") from None
    if fitted is None:
        return None
    columns = [column.name for column in fitted.columns]
    if (names and columns != list(names)) or (columns and width not in (None, -1, 0, len(columns))):
        _log.warning("the model was fitted on other columns than %s says: its inputs are guessed", INPUTS_FILE)
        return None
    return fitted


def declared_signature(description: Description, own: Signature, fitted: FittedOn | None = None) -> Signature:
    """Return the model's own signature with the sides that a caller of ``save_model`` declared or an example gave.

    An example does not count beside the frame that the model was fitted on.
    """
    framed = fitted is not None and fitted.kind == "frame"
    if description.signature_source == "model" or (framed and description.signature_source == "example"):
        return own
    inputs = tuple(_spec(tensor) for tensor in description.inputs)
    outputs = tuple(_spec(tensor) for tensor in description.outputs)
    return Signature(inputs or own.inputs, outputs or own.outputs)


def _spec(tensor: dict[str, Any]) -> TensorSpec:
    return TensorSpec(tensor["name"], tensor["datatype"], tuple(tensor["shape"]), bool(tensor.get("on_request")))


def is_batchable(signature: Signature) -> bool:
    """Whether every input and output has a batch's axis of any size."""
    specs = (*signature.inputs, *signature.outputs)
    return bool(signature.inputs) and all(spec.shape[:1] == (-1,) for spec in specs)


def choose_outputs(answers: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """Return the outputs that a request names, or all.

    Raises:
        InferenceError: The model has no such output.
    """
    for name in outputs:
        if name not in answers:
            raise InferenceError(f"the model has no output {name!r}: it has {', '.join(answers)}")
    return {name: answers[name] for name in outputs or answers}


def warn_of_versions(description: Description) -> None:
    """Log one line for every imported library that is here in another version than the model was saved with."""
    for name, (saved, here) in other_versions(description).items():
        _log.warning("the model was saved with %s %s, here is %s: its answers may differ", name, saved, here)


def other_versions(description: Description) -> dict[str, tuple[str, str]]:
    """Return the imported libraries that are here in another minor version: the one that saved, and that of here."""
    versions = {}
    for name, saved in description.versions.items():
        here = getattr(sys.modules.get(name), "__version__", saved)
        if _series(here) != _series(saved):
            versions[name] = (saved, here)
    return versions


def _series(version: str) -> list[str]:
    return version.split(".")[:2]


def thread_limit() -> int:
    """Return how many threads a library may use: ``OMP_NUM_THREADS``, or the cores of this process."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdecimal() and int(named) > 0:
        return int(named)
    return available_cores()


def threads_for(rows: int) -> int:
    """Return how many threads so many rows of a table are worth: a few rows are done before a second one wakes up."""
    return 1 if rows <= _FEW else thread_limit()


def use_modules(folder: Path) -> None:
    """Let the modules that were saved beside a model be imported; installed ones come first.

    Nothing is compiled into the folder, so that its checksums hold.
    """
    if any(folder.glob("*.py")) or any(folder.glob("*/__init__.py")):
        sys.dont_write_bytecode = True
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def import_file(path: Path) -> ModuleType:
    """Run a Python file of the model's folder as a module.

    Raises:
        ServingError: It is not there, or raises on import.
    """
    name = path.stem if path.stem not in sys.modules else f"served_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ServingError(f"there is no Python file {path.name} beside the model", "save it with extra_files")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise ServingError(
            f"{path.name} needs the module {error.name}, which is not installed here",
            "save it with extra_files, or add it to the requirements of the deployment",
        ) from error
    except Exception as error:  # a file from elsewhere may raise anything
        raise ServingError(
            f"{path.name} fails on import: {type(error).__name__}: {error}", "import it in a fresh Python to see where"
        ) from error
    return module

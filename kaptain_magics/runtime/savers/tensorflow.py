"""TensorFlow and Keras: a SavedModel in ``0001/``, as TensorFlow Serving expects it, or ``model.keras``.

A SavedModel is a graph and its weights; a ``.keras`` file is configuration and weights, loaded without unpickling.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers.base import Description, SaveOptions, copy_into, tensors, versions
from kaptain_magics.runtime.savers.pickled import Contents, dump_by_value, examine

FORMATS = ("saved_model", "keras")
CLASSES_FILE = "classes.pkl"
"""The script's own classes of layers, by value and by name, beside a ``.keras`` file that names them."""

_VERSION = "0001"


def save(model: Any, folder: Path, options: SaveOptions) -> Description:
    """Save a Keras model, a ``tf.Module``, or copy a SavedModel folder or a ``.keras`` file."""
    if isinstance(model, (str, Path)):
        return _copy(Path(model), folder)
    keras = _is_keras(model)
    formats = FORMATS if not keras or _backend() == "tensorflow" else FORMATS[::-1]
    kind = options.choose("TensorFlow", formats)
    path = "model.keras" if kind == "keras" else _VERSION
    contents = Contents()
    if kind == "keras":
        if not keras:
            raise ExportError("only Keras models have the format keras", "omit the format")
        model.save(folder / path)
        contents = _save_classes(model, folder)
    elif keras:
        model.export(str(folder / path), verbose=False)
    else:
        _save_module(model, folder / path, options.example)
    description = Description("tensorflow", kind, path, kind=type(model).__name__)
    description.versions = versions("tensorflow", "keras")
    contents.describe(description)
    if keras:
        description.details["backend"] = _backend()
    return description


def _save_classes(model: Any, folder: Path) -> Contents:
    """Save the script's own classes of layers beside a ``.keras`` file, which names them but does not have them."""
    own = {type(part).__name__: type(part) for part in _layers(model) if type(part).__module__ == "__main__"}
    if not own:
        return Contents()
    contents = examine(own)
    dump_by_value(own, folder / CLASSES_FILE)
    copy_into(folder, contents.modules)
    return contents


def _layers(model: Any) -> Iterator[Any]:
    yield model
    for layer in getattr(model, "layers", ()):
        yield from _layers(layer)


def _copy(path: Path, folder: Path) -> Description:
    if path.suffix == ".keras":
        shutil.copy2(path, folder / "model.keras")
        return Description("tensorflow", "keras", "model.keras", versions=versions("tensorflow", "keras"))
    if not (path / "saved_model.pb").is_file():
        path = sorted(path.glob("*/saved_model.pb"))[-1].parent
    shutil.copytree(path, folder / _VERSION)
    return Description("tensorflow", "saved_model", _VERSION, versions=versions("tensorflow"))


def _is_keras(model: Any) -> bool:
    return any(cls.__module__.partition(".")[0] in ("keras", "tf_keras") for cls in type(model).__mro__)


def _backend() -> str:
    keras = sys.modules.get("keras")
    return str(keras.backend.backend()) if keras is not None else "tensorflow"


def _save_module(module: Any, path: Path, example: Any) -> None:
    import tensorflow as tf

    if example is None:
        tf.saved_model.save(module, str(path))
        return
    parts = example if isinstance(example, tuple) else (example,)
    values = [tf.convert_to_tensor(part) for part in parts]
    names = [spec["name"] for spec in tensors(tuple(parts), "input")]
    specs = [tf.TensorSpec([None, *v.shape[1:]], v.dtype, name=n) for n, v in zip(names, values, strict=True)]
    function = tf.function(module.__call__).get_concrete_function(*specs)
    tf.saved_model.save(module, str(path), signatures=function)

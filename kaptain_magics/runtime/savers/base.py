"""What the savers share: the caller's options, and the description that goes into the folder with the model."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.datatypes import datatype_of
from kaptain_magics.runtime.job_errors import ExportError

DESCRIPTION_FILE = "kaptain-model.json"

_STORED_AS = {"signature_source": "told_by"}  # fields of a description whose names in the file are older

UNSERVABLE = "unservable"
"""The format of a model that is kept, although no server can load it; ``details`` of its description say why."""

Tensor = dict[str, Any]
"""An input or output: ``name``, ``datatype`` of the protocol, ``shape`` with -1 where any size will do."""


@dataclass(frozen=True)
class SaveOptions:
    """What the caller of ``save_model`` asked for.

    Attributes:
        format: File format, empty for the framework's safest one.
        example: Rows as the model takes them, ``None`` when there are none; a tuple or a dict for several inputs.
        extra_files: Files and folders to put beside the model.
    """

    format: str = ""
    example: Any = None
    extra_files: tuple[Path, ...] = ()

    def choose(self, framework: str, formats: Sequence[str]) -> str:
        """Return the format that was asked for, or the first of ``formats``.

        Raises:
            ExportError: The framework has no such format.
        """
        if not self.format:
            return formats[0]
        if self.format not in formats:
            raise ExportError(f"{framework} models have no format {self.format!r}", f"one of {', '.join(formats)}")
        return self.format


@dataclass
class Description:
    """What is known of a saved model; ``kaptain-model.json`` in its folder.

    Attributes:
        framework: The framework's name, as ``ModelFramework`` has it.
        format: The file format.
        model: Path of the model's file or folder, relative to the folder; ``.`` for the folder itself.
        kind: The object's class.
        inputs: Its inputs.
        outputs: Its outputs; ``on_request`` marks those that are computed only when asked for.
        signature_source: Where inputs and outputs come from: the ``model`` itself, an ``example``, or the caller's
            ``signature``.
        columns: Names of the features of a table, in their order.
        classes: The labels of a classifier, in the order of its probabilities.
        versions: Versions of Python and of the libraries that wrote it.
        details: What only the framework's loader understands.
        name: The model's name, where the caller gave one.
    """

    framework: str
    format: str
    model: str
    kind: str = ""
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    signature_source: str = "model"
    columns: list[str] = field(default_factory=list)
    classes: list[Any] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def write(self, folder: Path) -> None:
        """Write ``kaptain-model.json`` into ``folder``, without the fields that are empty."""
        fields = {_STORED_AS.get(key, key): value for key, value in asdict(self).items() if value not in ("", [], {})}
        (folder / DESCRIPTION_FILE).write_text(json.dumps(fields, indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Description | None:
        """Return the description in ``folder``; ``None`` where there is none.

        Raises:
            ValueError: The file is not a description.
        """
        try:
            stored = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
            names = {_STORED_AS.get(name, name): name for name in cls.__dataclass_fields__}
            return cls(**{names[key]: value for key, value in stored.items() if key in names})
        except FileNotFoundError:
            return None
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"invalid {DESCRIPTION_FILE}: {error}") from None


def versions(*modules: str) -> dict[str, str]:
    """Return the versions of Python and of those of ``modules`` that this process has imported."""
    versions = {"python": platform.python_version()}
    for name in (*modules, "numpy"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            versions[name] = str(version)
    return versions


def tensor(name: str, value: Any, *, on_request: bool = False) -> Tensor:
    """Describe a value (array, frame, tensor, list) whose first axis is the batch's."""
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        import numpy as np

        value = np.asarray(value)
    shape = [-1, *(int(size) for size in value.shape[1:])] if len(value.shape) else []
    described: Tensor = {"name": name, "datatype": datatype_of(value.dtype), "shape": shape}
    return {**described, "on_request": True} if on_request else described


def tensors(values: Any, name: str) -> list[Tensor]:
    """Describe one value or several: a dict names them, a DataFrame's columns too, a tuple's parts are numbered."""
    if hasattr(values, "columns"):
        values = {str(column): values[column] for column in values.columns}
    if isinstance(values, Mapping):
        return [tensor(str(key), value) for key, value in values.items()]
    if isinstance(values, tuple):
        return [tensor(f"{name}_{index}", value) for index, value in enumerate(values)]
    return [tensor(name, values)]


def describe_table(
    model: Any,
    description: Description,
    options: SaveOptions,
    width: int,
    ask: Callable[[Any], Any],
    number: str = "FP64",
) -> None:
    """Fill in a tabular model's inputs and outputs; the outputs by asking it, for the example or for zeros.

    Args:
        model: The model; an attribute ``predict_proba`` makes the probabilities an output.
        description: Filled in; has the columns and classes already.
        options: The datatypes come from its example, if any.
        width: Features of a row, -1 when unknown.
        ask: The model's ``predict``.
        number: The datatype that the model calculates in.

    Raises:
        ExportError: The model does not take the example.
    """
    name = "predict" if hasattr(model, "predict") else "transform"
    if options.example is not None:
        description.signature_source = "example"
        description.inputs = tensors(options.example, "predict")
        description.columns = [str(column) for column in getattr(options.example, "columns", description.columns)]
        try:
            description.outputs = [tensor(name, _ask(ask, options.example))]
        except Exception as error:  # a model may raise anything
            raise ExportError(
                f"this {type(model).__name__} does not take the example: {error}", "pass rows as for predict"
            ) from None
    else:
        described = [{"name": column, "datatype": number, "shape": [-1]} for column in description.columns]
        description.inputs = described or [{"name": "predict", "datatype": number, "shape": [-1, width]}]
        if width > 0:
            with contextlib.suppress(Exception):  # a model of texts, of named columns, ...
                description.outputs = [tensor(name, _ask(ask, [[0.0] * width] * 2))]
    if hasattr(model, "predict_proba"):
        shape = [-1, len(description.classes) or -1]
        description.outputs.append({"name": "predict_proba", "datatype": number, "shape": shape, "on_request": True})


def _ask(ask: Callable[[Any], Any], rows: Any) -> Any:
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ask(np.asarray(rows) if isinstance(rows, list) else rows)


def plain_list(values: Any) -> list[Any]:
    """Return an array's values as Python's own; nothing for ``None`` and for a list of arrays."""
    if values is None or (isinstance(values, list) and any(hasattr(value, "tolist") for value in values)):
        return []
    return list(values.tolist() if hasattr(values, "tolist") else values)


def copy_into(folder: Path, paths: Iterable[Path]) -> None:
    """Copy files and folders into ``folder`` under their own names.

    Raises:
        ExportError: One of them is not there, or the folder has something of that name.
    """
    for path in paths:
        target = folder / path.resolve().name
        if not path.exists():
            raise ExportError(f"there is no file {path} to put beside the model", "check the name and the folder")
        if target.exists():
            raise ExportError(f"{path.name} would replace a file of the model", "rename it")
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        else:
            shutil.copy2(path, target)

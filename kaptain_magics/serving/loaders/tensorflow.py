"""Models of TensorFlow and Keras: a SavedModel's serving signature, or a ``.keras`` file.

A ``.keras`` file is loaded in Keras's safe mode, which refuses code of lambda layers; the classes of layers that the
script defined lie beside it as a pickle with their code. A SavedModel is a graph, but its operations may read and write
files: deploy only what you trust.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError, ServingError
from kaptain_magics.runtime.datatypes import datatype_of
from kaptain_magics.runtime.savers.tensorflow import CLASSES_FILE
from kaptain_magics.serving.loaders.base import find_file, require
from kaptain_magics.serving.loaders.described import (
    choose_outputs,
    declared_signature,
    is_batchable,
    read_description,
    thread_limit,
    unpickle,
)
from kaptain_magics.serving.protocol.datatypes import DTYPES
from kaptain_magics.serving.signature import Array, LoadedModel, Signature, TensorSpec

_DEFAULT = "serving_default"


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:
    """Load the newest SavedModel in ``folder`` (``config["signature_name"]`` of it), or the ``.keras`` file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    described = read_description(folder)
    saved = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    saved_models = [path for path in saved if (path / "saved_model.pb").is_file()]
    model = (
        _load_saved(saved_models[-1], config.get("signature_name", _DEFAULT))
        if saved_models
        else _load_keras(folder, described.details)
    )
    model.signature = declared_signature(described, model.signature)
    model.batchable = is_batchable(model.signature)
    return model


def _limit_threads(tensorflow: Any) -> None:
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(thread_limit())
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # already in use in this process: they stay as they are
        pass


def _load_saved(path: Path, name: str) -> TensorFlowModel:
    tensorflow = require("tensorflow", "tensorflow")
    _limit_threads(tensorflow)
    try:
        loaded = tensorflow.saved_model.load(str(path))
    except Exception as error:  # its own errors have no common root but this
        reason = str(error).splitlines()[0]
        raise ServingError(
            f"{path.name} cannot be loaded by TensorFlow {tensorflow.__version__}: {reason}", "save it again"
        ) from error
    functions = dict(loaded.signatures)
    if name not in functions:
        raise ServingError(
            f"the SavedModel has no signature {name!r}: it has {', '.join(functions) or 'none'}",
            'save it with one, or name one in serving_config["signature_name"]',
        )
    function = functions[name]
    inputs = tuple(_spec(key, spec) for key, spec in sorted(function.structured_input_signature[1].items()))
    outputs = tuple(_spec(key, spec) for key, spec in function.structured_outputs.items())

    def call(arrays: dict[str, Array]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = function(**{key: tensorflow.constant(array) for key, array in arrays.items()})
        return answer

    model = TensorFlowModel("tensorflow_savedmodel", call, Signature(inputs, outputs))
    model.native = loaded  # its variables live as long as it
    return model


def _load_keras(folder: Path, details: Mapping[str, Any]) -> TensorFlowModel:
    path = find_file(folder, ("model.keras", "*.keras"))
    os.environ.setdefault("KERAS_BACKEND", details.get("backend", "tensorflow"))
    keras = require("keras", "keras")
    if keras.backend.backend() == "tensorflow":
        _limit_threads(require("tensorflow", "tensorflow"))
    own = unpickle(folder / CLASSES_FILE) if (folder / CLASSES_FILE).is_file() else None
    try:
        loaded = keras.saving.load_model(path, custom_objects=own, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ServingError(f"{path.name} cannot be loaded by Keras {keras.__version__}: {error}") from error
    inputs = tuple(_spec(tensor.name, tensor) for tensor in loaded.inputs)
    structure = getattr(loaded, "output", None)  # a Sequential has none
    named = isinstance(structure, dict)
    names = (
        list(structure) if isinstance(structure, dict) else [f"output_{index}" for index in range(len(loaded.outputs))]
    )
    outputs = tuple(_spec(name, tensor) for name, tensor in zip(names, loaded.outputs, strict=True))

    run = _compiled(loaded) if keras.backend.backend() == "tensorflow" else loaded

    def call(arrays: dict[str, Array]) -> Mapping[str, Any]:
        values = [arrays[spec.name] for spec in inputs]
        answer = run(values if len(values) > 1 else values[0])
        if named:
            return {name: keras.ops.convert_to_numpy(answer[name]) for name in names}
        parts = answer if isinstance(answer, (list, tuple)) else [answer]
        return {name: keras.ops.convert_to_numpy(part) for name, part in zip(names, parts, strict=True)}

    model = TensorFlowModel("tensorflow_keras", call, Signature(inputs, outputs))
    model.native = loaded
    return model


def _compiled(model: Any) -> Callable[[Any], Any]:
    """Return the model as one graph for batches of any size: a call then costs a tenth of an eager one."""
    import tensorflow

    specs = [tensorflow.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    several = len(specs) > 1
    graph = tensorflow.function(lambda *values: model(list(values) if several else values[0]), input_signature=specs)
    return lambda given: graph(*given) if several else graph(given)


def _spec(name: str, tensor: Any) -> TensorSpec:
    shape = tuple(-1 if size is None else int(size) for size in tensor.shape)
    return TensorSpec(name, datatype_of(tensor.dtype), shape)


class TensorFlowModel:
    """A function from named arrays to named tensors."""

    batchable = False

    def __init__(
        self, platform: str, call: Callable[[dict[str, Array]], Mapping[str, Any]], signature: Signature
    ) -> None:
        self.platform = platform
        self.signature = signature
        self.native: Any = None
        self._call = call
        self._inputs = {spec.name: spec for spec in signature.inputs}

    def predict(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, Array]:
        """Call the function; outputs that are not named are left out of the answer."""
        if len(inputs) == len(self._inputs) == 1:
            inputs = dict(zip(self._inputs, inputs.values(), strict=True))
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise InferenceError(f"input {missing[0]!r} is missing: the model takes {', '.join(self._inputs)}")
        arrays = {name: _cast(inputs[name], spec) for name, spec in self._inputs.items()}
        try:
            answer = self._call(arrays)
        except Exception as error:  # its own errors have no common root but this
            raise InferenceError(f"the model rejects this input: {str(error).splitlines()[0]}") from error
        return {name: np.asarray(value) for name, value in choose_outputs(answer, outputs).items()}


def _cast(array: Array, spec: TensorSpec) -> Array:
    return np.ascontiguousarray(array, dtype=DTYPES[spec.datatype])

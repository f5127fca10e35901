"""ONNX models, run by onnxruntime: data, never code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError, ServingError
from kaptain_magics.serving.loaders.base import as_text, find_file, require
from kaptain_magics.serving.loaders.described import is_batchable, thread_limit
from kaptain_magics.serving.loaders.table import to_matrix
from kaptain_magics.serving.protocol.datatypes import DTYPES
from kaptain_magics.serving.signature import Array, LoadedModel, Signature, TensorSpec

_DATATYPES = {
    "float": "FP32",
    "double": "FP64",
    "float16": "FP16",
    "bool": "BOOL",
    "string": "BYTES",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:  # noqa: ARG001
    """Load the one ``.onnx`` file of ``folder``."""
    runtime = require("onnxruntime", "onnxruntime")
    path = find_file(folder, ("model.onnx", "*.onnx"))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = thread_limit()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=_providers(runtime))
    except Exception as error:  # onnxruntime's own errors have no common root but this
        raise ServingError(f"{path.name} cannot be loaded by onnxruntime {runtime.__version__}: {error}") from error
    return OnnxModel(session)


def _providers(runtime: Any) -> list[str]:
    available = runtime.get_available_providers()
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]


class OnnxModel:
    """A session of onnxruntime. Maps and sequences, as converters make them of probabilities, become matrices."""

    platform = "onnx_onnxv1"

    def __init__(self, session: Any) -> None:
        self._session = self.native = session
        self._inputs = tuple(_spec(value) for value in session.get_inputs())
        self._outputs = [value.name for value in session.get_outputs()]
        ranked = all(spec.shape for spec in self._inputs)  # without: a scalar, or of any rank: it does not say which
        outputs = tuple(_spec(value) for value in session.get_outputs())
        self.signature = Signature(self._inputs if ranked else (), outputs)
        self.batchable = is_batchable(self.signature)

    def predict(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, Array]:
        """Run the graph for the outputs that are named, or all."""
        names = list(outputs or self._outputs)
        for name in names:
            if name not in self._outputs:
                raise InferenceError(f"the model has no output {name!r}: it has {', '.join(self._outputs)}")
        if len(self._inputs) == 1 and self._inputs[0].name not in inputs:
            inputs = {self._inputs[0].name: to_matrix(inputs, ())}
        elif len(inputs) == 1 and len(self._inputs) > 1:
            inputs = self._columns(*inputs.values())
        feed = {spec.name: _cast(inputs[spec.name], spec) for spec in self._inputs if spec.name in inputs}
        try:
            answers = self._session.run(names, feed)
        except Exception as error:  # onnxruntime's own errors have no common root but this
            raise InferenceError(f"onnxruntime: {str(error).splitlines()[0]}") from error
        return {name: _dense(value) for name, value in zip(names, answers, strict=True)}

    def _columns(self, matrix: Array) -> dict[str, Array]:
        """Cut a matrix into the columns of a graph that has an input for each."""
        if matrix.ndim != 2 or matrix.shape[1] != len(self._inputs):
            raise InferenceError(f"the model takes {', '.join(spec.name for spec in self._inputs)}")
        return {spec.name: matrix[:, [index]] for index, spec in enumerate(self._inputs)}


def _spec(value: Any) -> TensorSpec:
    kind = str(value.type)
    element = kind[kind.rfind("(") + 1 :].rstrip(")") if "tensor(" in kind else "float"
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape or ())
    if kind.startswith("seq(map"):
        shape = (-1, -1)
    return TensorSpec(value.name, _DATATYPES.get(element, "FP32"), shape)


def _cast(array: Array, spec: TensorSpec) -> Array:
    if spec.datatype == "BYTES":
        array = as_text(array)
    if array.ndim == 1 and len(spec.shape) == 2 and spec.shape[1] == 1:
        array = array.reshape(-1, 1)
    return np.ascontiguousarray(array, dtype=DTYPES[spec.datatype])


def _dense(value: Any) -> Array:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.asarray([[row[key] for key in value[0]] for row in value])
    return np.asarray(value)

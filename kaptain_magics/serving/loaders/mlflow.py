"""MLflow's pyfunc directories, of whatever flavor.

Most flavors hold pickles, which run when they are loaded: deploy only what you trust. Its checksums were compared
before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaptain_magics.errors import FrameworkError, InferenceError, ServingError
from kaptain_magics.runtime.datatypes import datatype_of
from kaptain_magics.serving.loaders.base import as_text, require
from kaptain_magics.serving.loaders.described import choose_outputs, is_batchable, thread_limit
from kaptain_magics.serving.loaders.table import to_frame
from kaptain_magics.serving.protocol.datatypes import DTYPES
from kaptain_magics.serving.signature import Array, LoadedModel, Signature, TensorSpec

_COLUMNS = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
}


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:  # noqa: ARG001
    """Load the model whose ``MLmodel`` lies in ``folder``."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("OMP_NUM_THREADS", str(thread_limit()))
    pyfunc = require("mlflow.pyfunc", "mlflow-skinny")
    if not (folder / "MLmodel").is_file():
        raise ServingError(f"{folder.name} holds no MLflow model: it has no file MLmodel", "save the model's directory")
    try:
        return MlflowModel(pyfunc.load_model(str(folder)))
    except ModuleNotFoundError as error:
        raise FrameworkError(
            f"the MLflow model needs {error.name}, which is not installed here",
            "add the lines of the model's requirements.txt to the requirements of the deployment",
        ) from error
    except Exception as error:  # MLflow's own, YAML's, and what unpickling raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ServingError(f"MLmodel cannot be loaded by MLflow: {reason}", "save the model again") from error


class MlflowModel:
    """A pyfunc model; columns come as a DataFrame, tensors as arrays, as its signature has them."""

    def __init__(self, model: Any) -> None:
        flavor = str(model.metadata.flavors.get("python_function", {}).get("loader_module", "pyfunc"))
        self.platform = "mlflow_" + flavor.rpartition(".")[2]
        self._model = self.native = model
        self._takes = model.metadata.get_input_schema()
        self._proba = getattr(_raw(model), "predict_proba", None)
        inputs, outputs = _specs(self._takes, "predict"), _specs(model.metadata.get_output_schema(), "predict")
        if self._proba is not None and outputs:
            outputs = (*outputs, TensorSpec("predict_proba", "FP64", (-1, -1), True))
        self.signature = Signature(inputs, outputs)
        self.batchable = is_batchable(self.signature) and bool(outputs)

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], parameters: Mapping[str, Any]
    ) -> Mapping[str, Array]:
        """Ask the model; parameters that its signature names are passed on."""
        given = self._arrange(inputs)
        answers: dict[str, Array] = {}
        if not outputs or any(name != "predict_proba" for name in outputs):
            answers = self._ask(given, parameters)
        if "predict_proba" in outputs and self._proba is not None:
            answers["predict_proba"] = np.asarray(self._proba(given))
        return choose_outputs(answers, outputs)

    def _ask(self, given: Any, parameters: Mapping[str, Any]) -> dict[str, Array]:
        schema = self._model.metadata.get_params_schema()
        names = [spec.name for spec in schema.params] if schema is not None else []
        params = {name: value for name, value in parameters.items() if name in names}
        try:
            answer = self._model.predict(given, params=params or None)
        except Exception as error:  # MLflow's schema errors, and whatever the model raises
            raise InferenceError(f"the model rejects this input: {str(error).splitlines()[0]}") from error
        return _named(answer)

    def _arrange(self, inputs: Mapping[str, Array]) -> Any:
        """Return the inputs as the model's schema has them, in its datatypes."""
        schema = self._takes
        if schema is None:
            frame = len(inputs) > 1 or next(iter(inputs.values())).ndim == 1
            return to_frame(inputs, ()) if frame else as_text(next(iter(inputs.values())))
        if not schema.is_tensor_spec():
            columns = [str(name) for name in schema.input_names()]
            frame = to_frame(inputs, columns)
            kinds = dict(zip(columns, (kind.name for kind in schema.input_types()), strict=True))
            numeric = {name: DTYPES[_COLUMNS[kind]] for name, kind in kinds.items() if kind in _COLUMNS}
            return frame.astype({name: dtype for name, dtype in numeric.items() if name in frame})
        specs = self.signature.inputs
        arrays = {spec.name: _cast(inputs[spec.name], spec) for spec in specs if spec.name in inputs}
        return arrays if schema.has_input_names() else next(iter(arrays.values()))


def _raw(model: Any) -> Any:
    """Return the library's own object behind a pyfunc model, where the flavor gives it."""
    try:
        return model.get_raw_model()
    except NotImplementedError:
        return None


def _specs(schema: Any, unnamed: str) -> tuple[TensorSpec, ...]:
    if schema is None:
        return ()
    names = schema.input_names() if schema.has_input_names() else [unnamed] * len(schema.inputs)
    if schema.is_tensor_spec():
        return tuple(
            TensorSpec(str(name), datatype_of(spec.type), tuple(int(size) for size in spec.shape))
            for name, spec in zip(names, schema.inputs, strict=True)
        )
    return tuple(
        TensorSpec(str(name), _COLUMNS.get(getattr(spec.type, "name", ""), "BYTES"), (-1,))
        for name, spec in zip(names, schema.inputs, strict=True)
    )


def _cast(array: Array, spec: TensorSpec) -> Array:
    return as_text(array) if spec.datatype == "BYTES" else array.astype(DTYPES[spec.datatype], copy=False)


def _named(answer: Any) -> dict[str, Array]:
    if hasattr(answer, "columns"):  # a DataFrame
        return {str(column): np.asarray(answer[column]) for column in answer.columns}
    if isinstance(answer, dict):
        return {str(name): np.asarray(value) for name, value in answer.items()}
    return {"predict": np.asarray(answer)}

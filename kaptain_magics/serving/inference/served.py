"""The model that a server serves: its state, its description, and inference whatever the protocol on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from kaptain_magics.serving.inference.batching import Runner
from kaptain_magics.serving.inference.metrics import Metrics
from kaptain_magics.serving.protocol.limits import Limits
from kaptain_magics.serving.protocol.protocol_errors import RequestError
from kaptain_magics.serving.protocol.shapes import advice, fits, mismatch
from kaptain_magics.serving.signature import Array, LoadedModel, Outputs, TensorSpec

_WHOLE = ("INT", "UINT", "BOOL")  # datatypes that have no value for a missing one


class ServedState(StrEnum):
    """The life of a served model."""

    LOADING = "loading"
    READY = "ready"


class Served:
    """A model under its name.

    Args:
        name: The model's name in the protocol.
        version: The version's name.
        limits: Bounds of the server.
        metrics: Where requests and calls are counted.
    """

    def __init__(self, name: str, version: str, limits: Limits, metrics: Metrics) -> None:
        self.name = name
        self.version = version
        self.limits = limits
        self.metrics = metrics
        self.state = ServedState.LOADING
        self.model: LoadedModel | None = None
        self._runner: Runner | None = None
        self._inputs: dict[str, TensorSpec] = {}
        self._outputs: dict[str, TensorSpec] = {}

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self.state is ServedState.READY

    @property
    def input_names(self) -> list[str]:
        """Names of the model's inputs, ``predict`` where it names none."""
        return list(self._inputs) or ["predict"]

    def open(self, model: LoadedModel) -> None:
        """Serve a loaded model from now on; called in the loop."""
        self.model = model
        self._inputs = {spec.name: spec for spec in model.signature.inputs}
        self._outputs = {spec.name: spec for spec in model.signature.outputs}
        self._runner = Runner(model, self.limits, self.metrics)
        self.state = ServedState.READY

    def close(self) -> None:
        """End the model's thread, after the call that runs; does nothing where no model was loaded."""
        if self._runner is not None:
            self._runner.close()

    def demand(self, name: str, version: str = "") -> None:
        """Check that a request means this model.

        Raises:
            RequestError: 404, there is no such model or version.
        """
        if name != self.name:
            raise RequestError(404, f"this server has no model {name!r}")
        if version and version != self.version:
            raise RequestError(404, f"model {name!r} has no version {version!r}, only {self.version!r}")

    def describe(self) -> dict[str, Any]:
        """Return the model's metadata.

        Raises:
            RequestError: 503, it is not loaded yet.
        """
        model = self._loaded()
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": model.platform,
            "inputs": [_describe(spec) for spec in model.signature.inputs],
            "outputs": [_describe(spec) for spec in model.signature.outputs],
        }

    async def infer(self, inputs: dict[str, Array], outputs: Sequence[str], parameters: Mapping[str, Any]) -> Outputs:
        """Ask the model.

        Args:
            inputs: The request's tensors by name.
            outputs: The outputs that it names; empty for the default ones.
            parameters: Its parameters; ``predict_proba`` adds the probabilities.

        Returns:
            The outputs by name, in the order that was asked for.

        Raises:
            RequestError: The request does not fit the model, or the model is not ready or busy.
            Exception: Whatever the model raised.
        """
        self._loaded()
        assert self._runner is not None
        if parameters.get("predict_proba") and "predict_proba" not in outputs:
            plain = [s.name for s in self._outputs.values() if not s.on_request]
            outputs = [*(outputs or plain), "predict_proba"]
            parameters = {k: v for k, v in parameters.items() if k != "predict_proba"}
        answer = await self._runner.submit(self._fit(inputs), self._check_outputs(outputs), parameters)
        if not outputs:
            return answer
        missing = [name for name in outputs if name not in answer]
        if missing:
            raise RequestError(400, f"the model has no output {missing[0]!r}")
        return {name: answer[name] for name in outputs}

    def _loaded(self) -> LoadedModel:
        if self.model is None:
            raise RequestError(503, f"model {self.name!r} is not ready", ((b"retry-after", b"1"),))
        return self.model

    def _check_outputs(self, outputs: Sequence[str]) -> Sequence[str]:
        for name in outputs:
            if self._outputs and name not in self._outputs:
                names = ", ".join(self._outputs)
                raise RequestError(400, f"the model has no output {name!r}: it has {names}")
        return outputs

    def _fit(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Return the inputs under the signature's names, checked against it."""
        if not inputs:
            raise RequestError(400, "the request has no inputs")
        rows = max(len(array) if array.ndim else 0 for array in inputs.values())
        if rows > self.limits.rows:
            raise RequestError(400, f"the request has {rows} rows, at most {self.limits.rows} are taken")
        specs = self._inputs
        if not specs:
            return inputs
        if len(specs) == 1 and len(inputs) == 1:  # the only input may have any name
            (spec,), (array,) = specs.values(), inputs.values()
            return {spec.name: _checked(spec, array)}
        missing = [name for name, spec in specs.items() if name not in inputs and not spec.optional]
        if not missing and all(name in specs for name in inputs):
            return {name: _checked(specs[name], array) for name, array in inputs.items()}
        if self._is_table(inputs):
            return inputs
        unknown = [name for name in inputs if name not in specs]
        problem = f"input {unknown[0]!r} is unknown" if unknown else f"input {missing[0]!r} is missing"
        raise RequestError(400, f"{problem}: the model takes {', '.join(list(specs)[:20])}")

    def _is_table(self, inputs: dict[str, Array]) -> bool:
        """Whether a matrix comes for a model of columns, or columns for a model of one matrix."""
        if len(inputs) == 1:
            ((name, array),) = inputs.items()
            if array.ndim != 2 or any(spec.shape != (-1,) for spec in self._inputs.values()):
                return False
            if array.shape[1] != len(self._inputs):
                raise RequestError(400, f"input {name!r} has {array.shape[1]} columns, not {len(self._inputs)}")
            return True
        if len(self._inputs) != 1:
            return False
        (spec,) = self._inputs.values()
        columns = all(a.ndim == 1 or (a.ndim == 2 and a.shape[1] == 1) for a in inputs.values())
        return len(spec.shape) == 2 and columns and spec.shape[1] in (-1, len(inputs))


def _checked(spec: TensorSpec, array: Array) -> Array:
    """Return an array that fits; a column of nothing but NaN is one of texts that are all missing."""
    single = spec.shape == (-1,) and array.ndim == 2 and array.shape[1] == 1  # a column as a table has it
    if not single and not fits(array.shape, spec.shape):
        hint = advice(array.shape, spec.shape)
        raise RequestError(400, mismatch(spec.name, array.shape, spec.shape) + (f" ({hint})" if hint else ""))
    column = spec.shape in ((-1,), (-1, 1))
    if spec.datatype == "BYTES" and column and array.dtype.kind == "f" and np.isnan(array).all():
        return np.full(array.shape, None, dtype=object)
    if (spec.datatype == "BYTES") != (array.dtype == object):
        came = "BYTES" if array.dtype == object else "numbers"
        raise RequestError(400, f"input {spec.name!r} takes {spec.datatype}, not {came}{_known(spec)}")
    if not spec.nullable and _has_missing(spec, array):
        raise RequestError(400, f"input {spec.name!r} has missing values: the model takes none there")
    return array


def _has_missing(spec: TensorSpec, array: Array) -> bool:
    """Whether texts or whole numbers are missing: NaN is a float like another, and a frame's column becomes floats."""
    if array.dtype == object:
        return any(value is None for value in array.ravel())
    whole = spec.datatype.startswith(_WHOLE) and not spec.dtype
    return whole and array.dtype.kind == "f" and bool(np.isnan(array).any())


def _known(spec: TensorSpec) -> str:
    return f": the model was fitted on {spec.dtype} there" if spec.dtype else ""


def _describe(spec: TensorSpec) -> dict[str, Any]:
    metadata = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    names = ("on_request", "dtype", "nullable", "optional", "classes")
    parameters = {name: value for name in names if (value := getattr(spec, name))}
    return metadata | ({"parameters": parameters} if parameters else {})

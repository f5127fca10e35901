"""A PyTorch module as the server asks it: arrays become tensors, and its answer becomes arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError
from kaptain_magics.runtime.datatypes import datatype_of
from kaptain_magics.serving.loaders.described import choose_outputs
from kaptain_magics.serving.protocol.datatypes import DTYPES
from kaptain_magics.serving.signature import Array, Signature


class TorchModel:
    """A module that takes and returns tensors.

    Args:
        platform: Its kind as the protocol names it.
        module: The module, in evaluation mode.
        signature: Its inputs and outputs, where they are known.
        keywords: Names of the inputs that it takes by name; those of ``forward`` when not given.
    """

    batchable = False

    def __init__(
        self,
        platform: str,
        module: Callable[..., Any],
        signature: Signature | None = None,
        keywords: Sequence[str] | None = None,
    ) -> None:
        self.platform = platform
        self.module = self.native = module
        self.signature = signature or Signature()
        first = next(iter(module.parameters()), None) if hasattr(module, "parameters") else None
        self.device = str(first.device) if first is not None else "cpu"
        self._float = datatype_of(first.dtype) if first is not None else "FP32"
        self._keywords = set(_parameter_names(module) if keywords is None else keywords)

    def predict(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, Array]:
        """Call the module; its tensor, tuple or dict become the outputs."""
        import torch

        datatypes = {spec.name: spec.datatype for spec in self.signature.inputs}
        tensors = {name: self.tensor(array, datatypes.get(name, "")) for name, array in inputs.items()}
        try:
            with torch.inference_mode():
                answer = self._call(tensors)
        except (RuntimeError, AssertionError, TypeError, IndexError) as error:
            raise InferenceError(f"the model rejects this input: {str(error).strip().splitlines()[0]}") from error
        answers = self._named(answer)
        return choose_outputs(answers, outputs)

    def tensor(self, array: Array, datatype: str = "") -> Any:
        """Return an array as a tensor of the datatype; where none is given, real numbers are as the weights are."""
        import torch

        if array.dtype == object:
            raise InferenceError("the model takes numbers, not BYTES")
        real = array.dtype.kind == "f"
        dtype = DTYPES[datatype or self._float] if datatype or real else array.dtype
        whole = np.ascontiguousarray(array, dtype=dtype)
        return torch.from_numpy(whole if whole.flags.writeable else whole.copy()).to(self.device)

    def _call(self, tensors: Mapping[str, Any]) -> Any:
        specs = self.signature.inputs
        ordered = [tensors[spec.name] for spec in specs if spec.name in tensors] if specs else list(tensors.values())
        if self._keywords and len(tensors) > 1 and self._keywords >= set(tensors):
            return self.module(**tensors)
        return self.module(*ordered)

    def _named(self, answer: Any) -> dict[str, Array]:
        declared = [spec.name for spec in self.signature.outputs]
        if isinstance(answer, Mapping):
            return {str(name): _array(value) for name, value in answer.items() if hasattr(value, "detach")}
        parts = answer if isinstance(answer, (tuple, list)) else (answer,)
        names = declared if len(declared) == len(parts) else [f"output_{index}" for index in range(len(parts))]
        return {name: _array(part) for name, part in zip(names, parts, strict=True)}


def _parameter_names(module: Any) -> list[str]:
    """Return the names of the arguments of ``forward``, where it names them."""
    import inspect

    schema = getattr(getattr(module, "forward", None), "schema", None)
    if schema is not None:
        return [argument.name for argument in schema.arguments[1:]]
    try:
        return list(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError, AttributeError):
        return []


def _array(value: Any) -> Array:
    """Return a tensor as an array; ``bfloat16``, which NumPy lacks, as ``float32``."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    whole = value.detach().cpu()
    return np.asarray((whole.float() if str(whole.dtype) == "torch.bfloat16" else whole).numpy())

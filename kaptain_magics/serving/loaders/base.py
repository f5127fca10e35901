"""What the server knows of a model: its tensors and how to ask it; and what every loader needs."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from kaptain_magics.errors import FrameworkError, ServingError

Array: TypeAlias = NDArray[Any]


class TensorSpec(msgspec.Struct, frozen=True):
    """An input or output of a model.

    Attributes:
        name: Its name.
        datatype: The protocol's datatype, such as ``FP32``.
        shape: Its dimensions, -1 where any size will do; the first one is the batch's for a batchable model.
        on_request: An output that is computed only when a request names it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    on_request: bool = False


class Signature(msgspec.Struct, frozen=True):
    """The inputs and outputs of a model; empty where they are not known, then anything goes."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class LoadedModel(Protocol):
    """A model in memory, ready to be asked. ``predict`` is called from one thread at a time.

    Attributes:
        platform: Its kind as the protocol names it, such as ``sklearn_joblib``.
        signature: Its inputs and outputs.
        batchable: Whether rows of several requests may be put into one call along the first axis.
    """

    platform: str
    signature: Signature
    batchable: bool

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], parameters: Mapping[str, Any]
    ) -> Mapping[str, Array]:
        """Ask the model.

        Args:
            inputs: The tensors by name. The names are the signature's; where the signature has one input and the
                request had one of another name, it comes under the signature's. Dimensions are checked; a number
                comes in the request's datatype, which need not be the signature's. ``BYTES`` are object arrays of
                ``bytes`` (see ``as_text``). A model that takes a table may get one matrix or a tensor of shape
                ``[n]`` or ``[n, 1]`` for every column (see ``loaders.table``).
            outputs: The outputs that the request names; empty for all that are not ``on_request``.
            parameters: The request's parameters.

        Returns:
            The outputs by name.

        Raises:
            InferenceError, ValueError, TypeError: The request cannot be answered; the message goes to the client.
        """


def require(module: str, distribution: str) -> ModuleType:
    """Import a framework's library.

    Raises:
        FrameworkError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        missing = (error.name or root).partition(".")[0]
        needed = distribution if missing == root else missing
        raise FrameworkError(
            f"the model needs {needed}, which is not installed here",
            f"add {needed} to the requirements of the deployment, or: pip install {needed}",
        ) from None


def find_file(folder: Path, patterns: Iterable[str]) -> Path:
    """Return the one file or folder in ``folder`` that the first matching pattern names.

    Raises:
        ServingError: There is none, or several match alike.
    """
    patterns = list(patterns)
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(p.name for p in found[:5])
            raise ServingError(f"{folder.name} holds several models: {names}", "save one model per folder")
    there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    raise ServingError(f"{folder.name} holds no model file ({', '.join(patterns)})", f"it holds {', '.join(there[:5])}")


def as_text(array: Array) -> Array:
    """Return a ``BYTES`` tensor with its ``bytes`` decoded as UTF-8; other arrays are returned as they are."""
    if array.dtype != object:
        return array
    texts = [value.decode() if isinstance(value, bytes) else value for value in array.ravel()]
    decoded: Array = np.empty(len(texts), dtype=object)
    decoded[:] = texts
    return decoded.reshape(array.shape)

"""What the server and its clients know of a model: its tensors, and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Outputs: TypeAlias = Mapping[str, Array]  # by name


class TensorSpec(msgspec.Struct, frozen=True):
    """An input or output of a model.

    Attributes:
        name: Its name.
        datatype: The protocol's datatype, such as ``FP32``.
        shape: Its dimensions, -1 where any size will do; the first one is the batch's for a batchable model.
        on_request: An output that is computed only when a request names it.
        dtype: An input's dtype in the data that the model was fitted on, where that is known.
        nullable: Whether an input takes missing values: ``null`` in JSON, the length 0xFFFFFFFF of a raw text.
        optional: An input that a request may leave out, since the model does not look at it.
        classes: What the columns of an output stand for: a classifier's labels.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    on_request: bool = False
    dtype: str = ""
    nullable: bool = False
    optional: bool = False
    classes: tuple[Any, ...] = ()


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

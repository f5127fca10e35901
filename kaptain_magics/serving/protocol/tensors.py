"""JSON tensors: ``{"name", "shape", "datatype", "parameters", "data"}`` to NumPy arrays and back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError
from kaptain_magics.runtime.text_values import shorten
from kaptain_magics.serving.protocol.datatypes import DTYPES, datatype_of, dtype_of
from kaptain_magics.serving.signature import Array

_TAKES = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}  # kind of the datatype: kinds of data that it takes
_DEEPEST = 32  # dimensions, the most that NumPy 1 has
EXACT = 2**53  # whole numbers up to which floats are exact


def read_shape(tensor: dict[str, Any], name: str) -> tuple[int, ...]:
    """Return a tensor's ``shape``.

    Raises:
        InferenceError: It is not a list of whole numbers from 0.
    """
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) > _DEEPEST or not all(type(d) is int and d >= 0 for d in shape):
        raise InferenceError(f"tensor {name!r}: shape {shorten(repr(shape))} is not a list of whole numbers from 0")
    return tuple(shape)


def read_data(data: Any, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    """Return the array of a tensor's ``data``: flat in row-major order, or nested like its shape.

    Args:
        data: The parsed JSON. ``null`` is a missing value: NaN among numbers, which are floats then, and ``None``
            among texts.
        datatype: The protocol's datatype.
        shape: The tensor's shape.
        name: The tensor's name, for messages.

    Raises:
        InferenceError: The data is not of that datatype or shape.
    """
    dtype = dtype_of(datatype)
    if not isinstance(data, list):
        raise InferenceError(f"tensor {name!r}: data is not a list")
    nested = bool(data and shape) and isinstance(data[0], list)
    needed = shape[0] if nested else math.prod(shape)
    if len(data) != needed:  # before anything is built of it
        what = "lists" if nested else "values"
        raise InferenceError(f"tensor {name!r}: shape {list(shape)} needs {needed} {what}, not {len(data)}")
    if datatype == "BYTES":
        array = _read_texts(data, shape, name)
    else:
        array = read_numbers(data, dtype, datatype, name)
    if array.shape == shape:
        return array
    if array.ndim > 1 and array.size:
        raise InferenceError(f"tensor {name!r}: data has shape {list(array.shape)}, not {list(shape)}")
    if array.size != math.prod(shape):
        raise InferenceError(f"tensor {name!r}: shape {list(shape)} needs {math.prod(shape)} values, not {array.size}")
    return array.reshape(shape)


def read_numbers(data: list[Any], dtype: np.dtype[Any], datatype: str, name: str) -> Array:
    """Return numbers as an array of their own shape.

    Raises:
        InferenceError: They are nested unevenly, or not of that datatype.
    """
    try:
        array: Array = np.array(data)
    except (ValueError, OverflowError):
        raise InferenceError(f"tensor {name!r}: data is nested unevenly") from None
    if not array.size:
        return array.astype(dtype)
    missing = array.dtype.kind == "O" and any(value is None for value in array.ravel())
    if array.dtype.kind == "O":  # null, or whole numbers that no single dtype holds
        array = _read_objects(array, dtype, datatype, name)
    elif dtype == np.uint64 and array.dtype.kind == "f":
        array = _read_objects(np.array(data, dtype=object), dtype, datatype, name)
    if array.dtype == dtype or (missing and dtype.kind != "f"):
        return array
    if array.dtype.kind not in _TAKES[dtype.kind]:
        raise InferenceError(f"tensor {name!r}: data is not of datatype {datatype}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if (np.isinf(converted) if dtype.kind == "f" else converted != array).any():
        raise InferenceError(f"tensor {name!r}: a value does not fit into {datatype}")
    return converted


def _read_objects(array: Array, dtype: np.dtype[Any], datatype: str, name: str) -> Array:
    """Return whole numbers that no single dtype holds, or numbers with missing ones among them, as floats then."""
    values = [value for value in array.ravel() if value is not None]
    takes = {"f": (int, float), "b": (bool,)}.get(dtype.kind, (int,))
    if any(type(value) not in takes for value in values):
        raise InferenceError(f"tensor {name!r}: data is not of datatype {datatype}")
    floats = dtype.kind == "f" or len(values) < array.size
    if floats and dtype.kind in "iu" and any(abs(value) > EXACT for value in values):
        raise rounded(name)
    try:
        return array.astype(np.float64 if floats else dtype)
    except OverflowError:
        raise InferenceError(f"tensor {name!r}: a value does not fit into {datatype}") from None


def rounded(name: str) -> InferenceError:
    """Return the error for a whole number that floats, which a missing value makes of all, do not hold."""
    return InferenceError(f"tensor {name!r}: beside a missing value, a whole number above 2**53 would be rounded")


def _read_texts(data: list[Any], shape: tuple[int, ...], name: str) -> Array:
    flat = list(_leaves(data, 1))
    if not all(text is None or isinstance(text, str) for text in flat):
        raise InferenceError(f"tensor {name!r}: data of datatype BYTES holds something that is not a text")
    if data and isinstance(data[0], list) and not _has_shape(data, shape):
        raise InferenceError(f"tensor {name!r}: data is not nested like its shape {list(shape)}")
    array: Array = np.empty(len(flat), dtype=object)
    array[:] = [text if text is None else text.encode() for text in flat]
    return array


def _leaves(data: list[Any], depth: int) -> Iterator[Any]:
    if depth > _DEEPEST:
        raise InferenceError(f"data is nested deeper than {_DEEPEST} levels")
    for item in data:
        if isinstance(item, list):
            yield from _leaves(item, depth + 1)
        else:
            yield item


def _has_shape(data: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return not isinstance(data, list)
    return isinstance(data, list) and len(data) == shape[0] and all(_has_shape(item, shape[1:]) for item in data)


def as_tensor(array: Any) -> tuple[str, Array]:
    """Return the datatype of values and the array in the dtype that carries it, contiguous.

    Raises:
        InferenceError: No datatype of the protocol holds it.
    """
    array = np.asarray(array)
    datatype = datatype_of(array.dtype)
    return datatype, np.ascontiguousarray(array, dtype=DTYPES[datatype]).reshape(array.shape)


def write_data(datatype: str, array: Array) -> Any:
    """Return what ``orjson`` writes as a tensor's flat ``data``.

    Raises:
        InferenceError: Bytes are not UTF-8, which JSON cannot carry.
    """
    if datatype != "BYTES":
        return array.reshape(-1)
    try:
        return [value.decode() if isinstance(value, bytes) else _text(value) for value in array.ravel()]
    except UnicodeDecodeError:
        raise InferenceError("an output holds bytes that JSON cannot carry: ask for binary_data") from None


def _text(value: Any) -> str | None:
    return value if value is None else str(value)


def nested_data(values: Array) -> Any:
    """Return values as JSON nested like their shape, as the V1 protocol has them; raises as ``write_data``."""
    datatype, array = as_tensor(values)
    if datatype == "BYTES":
        array = np.array(write_data(datatype, array), dtype=object).reshape(array.shape)
    return array.tolist()

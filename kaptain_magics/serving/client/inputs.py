"""What people have at hand, as the tensors that a model takes: arrays, lists, records, rows, tables and images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError
from kaptain_magics.runtime.text_values import shorten
from kaptain_magics.serving.protocol.datatypes import dtype_of
from kaptain_magics.serving.protocol.shapes import advice, fits, mismatch
from kaptain_magics.serving.protocol.tensors import EXACT
from kaptain_magics.serving.signature import Array, Signature, TensorSpec

UNNAMED = "rows"  # one matrix for a model of columns, or for one without a signature
_COLUMN = ((-1,), (-1, 1))  # shapes of an input that is one column of a table
_SHOWN = 20  # names of inputs that a message lists


def to_tensors(data: Any, signature: Signature) -> dict[str, Array]:
    """Return the tensors to send.

    Args:
        data: Rows of shape ``[n, features]``, also of a sparse matrix; one row; a DataFrame, a Series labelled with the
            model's columns, or a list of records; a dict of columns or named inputs; samples of the model's own shape,
            or one of them; flat rows of a sample's values. Nothing else is reshaped, and no axes are exchanged.
        signature: What the model takes; empty where that is not known.

    Raises:
        InferenceError: The data cannot be what the model takes.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    if hasattr(data, "tocsr"):
        data = data.toarray()
    named = _by_name(data, specs)
    if named is not None:
        tensors = {name: _column(value, name, specs.get(name)) for name, value in named.items()}
    else:
        tensors = _by_place(data, signature)
    if not tensors or any(array.ndim and not len(array) for array in tensors.values()):
        raise InferenceError("there are no rows to predict", f"the model takes {_takes(signature)}")
    return tensors


# ---- data with names -------------------------------------------------------------------------------------------


def _by_name(data: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Any] | None:
    """Return a value or a list of values for every name; ``None`` where the order decides."""
    if hasattr(data, "columns") and hasattr(data, "dtypes"):
        return _distinct(data.columns, [data[name] for name in dict.fromkeys(data.columns)])
    if isinstance(data, list | tuple) and any(_is_record(row, specs) for row in data):
        return _records([_by_name(row, specs) if _is_record(row, specs) else None for row in data])
    if not _is_record(data, specs):
        return None
    return _distinct(data.keys(), list(data.values()) if isinstance(data, Mapping) else data.tolist())


def _is_record(data: Any, specs: Mapping[str, TensorSpec]) -> bool:
    """Whether it is a mapping, or a Series with names for labels; one with numbers for labels is a list of values."""
    if isinstance(data, Mapping):
        return True
    if not (hasattr(data, "iloc") and hasattr(data, "index") and getattr(data, "ndim", 0) == 1):
        return False
    if {str(label) for label in data.index} == specs.keys():
        return True
    return len(specs) != 1 and any(isinstance(label, str) for label in data.index)


def _distinct(names: Any, values: Sequence[Any]) -> dict[str, Any]:
    texts = [str(name) for name in names]
    twice = next((name for name in texts if texts.count(name) > 1), None)
    if twice is not None:
        raise InferenceError(f"duplicate name {twice!r}", "give every column a name of its own")
    return dict(zip(texts, values, strict=True))


def _records(rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    first = rows[0] or {}
    for index, row in enumerate(rows):
        if row is None:
            raise InferenceError(f"row {index} has no names, others have", "write every row as a dict, or none")
        if row.keys() != first.keys():
            odd = next(iter(row.keys() ^ first.keys()))
            raise InferenceError(
                f"rows 0 and {index} do not have the same names: {odd!r} is in one of them only",
                "write None where a value is missing",
            )
    return {name: [row[name] for row in rows if row is not None] for name in first}


def _column(value: Any, name: str, spec: TensorSpec | None) -> Array:
    array = _settled(_stacked(_array(value), name), f"column {name!r}", spec)
    if array.ndim == 0:
        array = array.reshape(1)
    if spec is None:
        return array
    return _typed(_fitted(array, spec) if len(spec.shape) > 1 else array, spec)


def _stacked(array: Array, name: str) -> Array:
    """Return a table's column whose cells are arrays as one array.

    Raises:
        InferenceError: They are not of one shape.
    """
    cells = list(array) if array.dtype == object and array.ndim == 1 else []
    if not cells or not all(isinstance(cell, np.ndarray) for cell in cells):
        return array
    odd = next((index for index, cell in enumerate(cells) if cell.shape != cells[0].shape), None)
    if odd is not None:
        raise InferenceError(
            f"column {name!r} holds arrays of several shapes: {list(cells[0].shape)} in row 0, "
            f"{list(cells[odd].shape)} in row {odd}",
            "give every row the same shape",
        )
    return np.stack(cells)


# ---- data without names ----------------------------------------------------------------------------------------


def _by_place(data: Any, signature: Signature) -> dict[str, Array]:
    specs = signature.inputs
    array = _array(data)
    if array.ndim == 0:
        if specs and not _is_value(data, specs):
            raise InferenceError(f"{shorten(repr(data))} is not a table", f"the model takes {_takes(signature)}")
        array = array.reshape(1)
    if len(specs) > 1:
        return _cut(array, signature)
    array = _settled(array, "the data")
    if not specs:
        return {UNNAMED: array.reshape(1, -1) if array.ndim == 1 else array}
    (spec,) = specs
    return {spec.name: _typed(_fitted(array, spec), spec)}


def _is_value(data: Any, specs: Sequence[TensorSpec]) -> bool:
    """Whether one value is one row of the model."""
    text = isinstance(data, str | bytes)
    single = len(specs) == 1 and all(size == 1 for size in specs[0].shape[1:])
    return single and text == (specs[0].datatype == "BYTES")


def _cut(array: Array, signature: Signature) -> dict[str, Array]:
    """Return rows as the columns of a model that has several; as one matrix where all are numbers."""
    specs = signature.inputs
    if any(spec.shape not in _COLUMN for spec in specs):
        raise InferenceError("the data has no names", f"send a dict: the model takes {_takes(signature)}")
    if array.ndim == 1:
        array = array.reshape(1, -1)
    if array.size and (array.ndim != 2 or array.shape[1] != len(specs)):
        shape = f"rows of {array.shape[1]} values" if array.ndim == 2 else f"an array of shape {list(array.shape)}"
        raise InferenceError(f"the data has {shape}, not {len(specs)}", f"the model takes {_takes(signature)}")
    numbers = array.dtype.kind in "fiub" and all(s.shape == (-1,) and s.datatype != "BYTES" for s in specs)
    if numbers or not array.size:
        return {UNNAMED: array.reshape(-1, len(specs))}
    return {spec.name: _column(array[:, index], spec.name, spec) for index, spec in enumerate(specs)}


def _takes(signature: Signature) -> str:
    specs = signature.inputs
    if not specs:
        return "rows"
    if len(specs) == 1:
        shape, kind = specs[0].shape, "texts" if specs[0].datatype == "BYTES" else "numbers"
        if len(shape) == 1:
            return f"a list of {kind}"
        if len(shape) == 2:
            return f"rows of {shape[1]} features" if shape[1] >= 0 else f"rows of {kind}"
        return f"{kind} of shape {list(shape)}"
    names = ", ".join(spec.name for spec in specs[:_SHOWN]) + (", ..." if len(specs) > _SHOWN else "")
    return f"rows of the columns {names}" if all(s.shape in _COLUMN for s in specs) else f"the inputs {names}"


# ---- arrays ----------------------------------------------------------------------------------------------------


def _array(data: Any) -> Array:
    """Return an array whose values are what they were: NumPy makes texts of whatever stands beside a text.

    Dates, times and durations become texts.
    """
    try:
        array: Array = np.asarray(data)
    except ValueError:
        raise _uneven(data) from None
    if array.dtype.kind in "mM":
        return _times(data, array)
    if array.dtype.kind in "US" and not hasattr(data, "dtype"):
        return np.array(data, dtype=object)
    return array


def _uneven(data: Sequence[Any]) -> InferenceError:
    sizes = [len(row) if hasattr(row, "__len__") and not isinstance(row, str | bytes) else None for row in data]
    odd = next((index for index, size in enumerate(sizes) if size != sizes[0]), None)
    hint = "give every row the same number of values"
    if odd is None:
        return InferenceError("the rows are nested unevenly", hint)
    first, other = ("no list" if size is None else size for size in (sizes[0], sizes[odd]))
    return InferenceError(f"the rows are uneven: values in row 0: {first}, in row {odd}: {other}", hint)


def _times(data: Any, array: Array) -> Array:
    """Return times without a zone as ISO 8601 texts, durations as pandas writes them."""
    texts: Array = np.empty(array.size, dtype=object)
    if array.dtype.kind == "M":
        texts[:] = np.datetime_as_string(array.ravel()).tolist()
    else:
        texts[:] = [str(value) for value in (data if hasattr(data, "dt") else array.ravel())]
    texts[np.isnat(array.ravel())] = None
    return texts.reshape(array.shape)


def _written(value: Any) -> Any:
    """Return a value of a column of objects as it is sent: times and intervals as texts."""
    if _is_missing(value):
        return math.nan
    if hasattr(value, "isoformat") and not hasattr(value, "total_seconds"):
        return value.isoformat()
    return str(value) if hasattr(value, "closed_left") or hasattr(value, "total_seconds") else value


def _settled(array: Array, what: str, spec: TensorSpec | None = None) -> Array:
    """Return objects as numbers or truth values, with NaN for missing ones, or as texts, with ``None`` for those."""
    if array.dtype != object or not array.size:
        return array
    values = [value if type(value) is str else _written(value) for value in array.ravel()]
    if not any(isinstance(value, str | bytes) for value in values):
        with suppress(ValueError, TypeError, OverflowError):
            converted: Array = np.asarray(values)
            if converted.dtype.kind == "f" and any(isinstance(v, int) and abs(v) > EXACT for v in values):
                raise InferenceError(f"{what}: beside a missing value, a whole number above 2**53 would be rounded")
            return (converted.astype(np.float64) if converted.dtype == object else converted).reshape(array.shape)
        return array
    gap = next((index for index, value in enumerate(values) if value is math.nan), None)
    if gap is not None and (spec is None or not spec.nullable):
        row = gap // math.prod(array.shape[1:])
        fill = f", e.g. df.fillna({{{spec.name!r}: 'missing'}})" if spec is not None else ""
        raise InferenceError(f"{what} is empty in row {row}: the endpoint takes no empty text there", f"fill it{fill}")
    settled: Array = np.empty(len(values), dtype=object)
    settled[:] = [None if value is math.nan else value for value in values]
    return settled.reshape(array.shape)


def _is_missing(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")  # pandas', which need not be here


def _fitted(array: Array, spec: TensorSpec) -> Array:
    """Return data in the model's shape where no value changes its place: one sample as a batch of one, or flat rows.

    Raises:
        InferenceError: It has another shape; both are named. Axes are never exchanged, and rows are never joined.
    """
    shape = spec.shape
    if not shape or not array.size or fits(array.shape, shape):
        return array
    inner = shape[1:]
    if shape[0] in (-1, 1) and fits(array.shape, inner):
        return array[np.newaxis]
    if all(size == 1 for size in inner) and array.size == len(array):  # a list of values, each a sample
        return array.reshape(len(array), *inner)
    if inner and all(size >= 0 for size in inner):
        row = math.prod(inner)
        if array.shape == (row,):
            return array.reshape(1, *inner)
        if array.ndim == 2 and array.shape[1] == row:
            return array.reshape(len(array), *inner)
    raise InferenceError(mismatch(spec.name, array.shape, shape), advice(array.shape, shape))


def _typed(array: Array, spec: TensorSpec) -> Array:
    """Return numbers in the model's floating point type, so that no more bytes travel than it uses."""
    dtype = dtype_of(spec.datatype)
    return array.astype(dtype) if dtype.kind == "f" and array.dtype.kind in "fiu" else array

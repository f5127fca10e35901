"""Frames as the model was fitted on: dtypes, categories, dates and missing values put back from a request's tensors.

What the frame was is in the model's folder (``runtime.fitted``). Texts, dates, times and categories of them travel as
``BYTES``, all others as numbers; a column that gets a value that its dtype cannot hold becomes what pandas would have
made of it: an ``int64`` column with a missing value ``float64``, a category with a new value a wider category.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kaptain_magics.errors import InferenceError
from kaptain_magics.runtime.datatypes import datatype_of
from kaptain_magics.runtime.fitted import Column, FittedOn
from kaptain_magics.runtime.text_values import shorten
from kaptain_magics.serving.loaders.base import as_text
from kaptain_magics.serving.loaders.table import to_columns
from kaptain_magics.serving.signature import Array, TensorSpec

if TYPE_CHECKING:
    import pandas as pd

_PLAIN = ("bool", "int", "uint", "float")


class Frame:
    """Builds DataFrames as a model was fitted on.

    Args:
        fitted: What it was fitted on, of kind ``frame``.
        unused: Columns that the model does not look at: a request may leave them out.
    """

    def __init__(self, fitted: FittedOn, unused: frozenset[str] = frozenset()) -> None:
        self.names = tuple(column.name for column in fitted.columns)
        self.unused = unused
        self._fitted = fitted
        self._labels = [column.name if column.label is None else column.label for column in fitted.columns]
        self._restore = {column.name: _restorer(column) for column in fitted.columns}

    @property
    def is_plain(self) -> bool:
        """Whether all columns are numbers of NumPy, so that one matrix says the same."""
        return all(column.dtype.rstrip("0123456789") in _PLAIN for column in self._fitted.columns)

    def specs(self) -> tuple[TensorSpec, ...]:
        """Return the columns as inputs."""
        return tuple(
            TensorSpec(
                column.name,
                column.datatype,
                (-1,),
                dtype=column.dtype,
                nullable=bool(column.missing) or column.dtype.rstrip("0123456789") not in ("bool", "int", "uint"),
                optional=column.name in self.unused,
            )
            for column in self._fitted.columns
        )

    def example(self) -> dict[str, Array]:
        """Return the example row as a request's tensors."""
        return {column.name: _tensor(column.example, column.datatype) for column in self._fitted.columns}

    def build(self, inputs: Mapping[str, Array]) -> pd.DataFrame:
        """Return a request's rows as a frame.

        Raises:
            InferenceError: Columns are missing, unknown or of different lengths, or hold what their dtype cannot mean.
        """
        import pandas as pd

        columns = to_columns(inputs, self.names, self.unused)
        built = {}
        for name, values in columns.items():
            try:
                built[name] = self._restore[name](values)
            except (InferenceError, ValueError, TypeError, OverflowError) as error:
                dtype = next(column.dtype for column in self._fitted.columns if column.name == name)
                raise InferenceError(f"column {name!r} ({dtype}): {shorten(str(error), 200)}") from None
        frame = pd.DataFrame(built)
        frame.columns = [label for label, name in zip(self._labels, self.names, strict=True) if name in built]
        return frame


def _tensor(value: Any, datatype: str) -> Array:
    if datatype == "BYTES":
        array: Array = np.empty(1, dtype=object)
        array[0] = None if value is None else str(value).encode()
        return array
    return np.array([np.nan if value is None else value])


# ---- columns ---------------------------------------------------------------------------------------------------


def _restorer(column: Column) -> Callable[[Array], Any]:
    """Return the function that makes a column's values of a tensor ``[n]``."""
    dtype = column.dtype
    if dtype == "category":
        return _category(column)
    if dtype == "object":
        return lambda values: _objects(values, column)
    if dtype.startswith("datetime64"):
        return lambda values: _dates(values, dtype)
    if dtype.startswith("timedelta64"):
        return lambda values: _durations(values, dtype)
    if dtype == "bool":
        return _booleans
    if dtype.startswith(("int", "uint")) and "[" not in dtype:
        return lambda values: _integers(values, np.dtype(dtype))
    if dtype.startswith("float") and "[" not in dtype:
        return lambda values: _numbers(values).astype(dtype)
    return lambda values: _extension(values, dtype)


def _numbers(values: Array) -> Array:
    if values.dtype == object:
        raise InferenceError("the values are texts, the model was fitted on numbers")
    return values


def _integers(values: Array, dtype: np.dtype[Any]) -> Array:
    values = _numbers(values)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.trunc(values))).all():
        return values  # as pandas has them: a missing value makes them floats
    converted = values.astype(dtype)
    return converted if (converted == values).all() else values


def _booleans(values: Array) -> Array:
    values = _numbers(values)
    empty = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
    if not np.isin(values[~empty], (0, 1)).all():
        raise InferenceError("the values are numbers, the model was fitted on truth values")
    if not empty.any():
        return values.astype(bool)
    mixed: Array = values.astype(bool).astype(object)
    mixed[empty] = np.nan
    return mixed


def _list(values: Array) -> list[Any]:
    """Return a tensor's values as Python's own, ``None`` for missing ones."""
    if values.dtype == object:
        return list(as_text(values))
    return [None if value != value else value for value in values.tolist()]


def _objects(values: Array, column: Column) -> Any:
    import pandas as pd

    whole = column.values == "integer"
    truth = column.values == "boolean"
    missing = {"None": None, "NA": pd.NA, "NaT": pd.NaT}.get(column.missing, np.nan)
    listed = [
        missing if value is None else bool(value) if truth else int(value) if whole and value == int(value) else value
        for value in _list(values)
    ]
    return pd.Series(listed, dtype=object)  # an array of texts would become one of another dtype


def _dates(values: Array, dtype: str) -> Any:
    import pandas as pd

    texts = _texts(values, "dates are sent as ISO 8601 texts")
    zone = dtype.partition(", ")[2].removesuffix("]")
    for text in texts:
        aware = text is not None and pd.Timestamp(text).tzinfo is not None
        if text is not None and aware != bool(zone):
            fitted = "times without one" if aware else f"times of {zone}: send {text}+00:00"
            raise InferenceError(f"the time {text} has {'a' if aware else 'no'} zone, the model was fitted on {fitted}")
    dates = pd.to_datetime(texts, format="ISO8601", utc=bool(zone))
    return (dates.tz_convert(zone) if zone else dates).astype(dtype)


def _durations(values: Array, dtype: str) -> Any:
    import pandas as pd

    return pd.to_timedelta(_texts(values, "durations are sent as texts")).astype(dtype)


def _texts(values: Array, advice: str) -> list[str | None]:
    if values.dtype != object and not (values.dtype.kind == "f" and np.isnan(values).all()):
        raise InferenceError(f"the values are numbers: {advice}")
    return _list(values)


def _extension(values: Array, dtype: str) -> Any:
    """Return values of one of pandas' own dtypes: nullable numbers, strings, Arrow's, sparse ones."""
    import pandas as pd

    if dtype.startswith("Sparse["):
        return pd.arrays.SparseArray(values, dtype=pd.api.types.pandas_dtype(dtype))
    kind = datatype_of(dtype.partition("[")[0])
    listed = _list(values)
    if kind == "BOOL":
        listed = [None if value is None else bool(value) for value in listed]
    elif "INT" in kind:
        listed = [int(value) if value is not None and value == int(value) else value for value in listed]
    return pd.array([pd.NA if value is None else value for value in listed], dtype=dtype)


# ---- categories ------------------------------------------------------------------------------------------------


def _category(column: Column) -> Callable[[Array], Any]:
    import pandas as pd

    dtype = pd.CategoricalDtype(_index(column), column.ordered)
    texts = column.datatype == "BYTES"
    keys = _texts_of(column) if texts else column.categories
    codes = {key: code for code, key in enumerate(keys)}

    def restore(values: Array) -> Any:
        if not texts:
            values = _numbers(values)
        listed = _texts(values, "the model was fitted on a category of texts") if texts else _list(values)
        new = list(dict.fromkeys(value for value in listed if value is not None and value not in codes))
        if not new:
            return pd.Categorical.from_codes([codes.get(value, -1) for value in listed], dtype=dtype)
        if texts and column.categories_dtype not in ("object", "str", "string"):
            raise InferenceError(f"{shorten(new[0])!r} is not a category of it: {shorten(', '.join(keys), 200)}")
        wider = dtype.categories.append(pd.Index(new, dtype=None if texts else dtype.categories.dtype))
        places = codes | {key: code for code, key in enumerate(new, len(keys))}
        coded = [places.get(value, -1) for value in listed]
        return pd.Categorical.from_codes(coded, categories=wider, ordered=column.ordered)

    return restore


def _index(column: Column) -> Any:
    import pandas as pd

    if column.categories_dtype.startswith("interval"):
        ends = [tuple(pair) for pair in column.categories]
        return pd.IntervalIndex.from_tuples(ends, dtype=column.categories_dtype)
    if column.categories_dtype.startswith("datetime64"):
        return pd.DatetimeIndex(_dates(np.array(column.categories, dtype=object), column.categories_dtype))
    return pd.Index(column.categories, dtype=column.categories_dtype)


def _texts_of(column: Column) -> list[str]:
    """Return the categories as they are written in a request."""
    if column.categories_dtype.startswith("interval"):
        return [str(value) for value in _index(column)]
    return [str(value) for value in column.categories]

"""Tables: one matrix, or a tensor for every column, as the tabular frameworks take them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kaptain_magics.errors import InferenceError
from kaptain_magics.serving.loaders.base import as_text
from kaptain_magics.serving.signature import Array

if TYPE_CHECKING:
    import pandas as pd


def to_matrix(inputs: Mapping[str, Array], columns: Sequence[str]) -> Array:
    """Return a table's rows as one array of shape ``[n, features]``.

    Args:
        inputs: One tensor of shape ``[n, features]``, or one of shape ``[n]`` or ``[n, 1]`` for every column.
        columns: The model's feature names in their order; empty when it has none, then the request's order counts.

    Raises:
        InferenceError: Columns are missing, unknown or of different lengths.
    """
    if len(inputs) == 1:
        ((name, array),) = inputs.items()
        if array.ndim > 1 and not (columns and [name] == list(columns)):
            return as_text(array)
    return np.column_stack([as_text(column) for column in to_columns(inputs, columns).values()])


def to_frame(inputs: Mapping[str, Array], columns: Sequence[str]) -> pd.DataFrame:
    """Return a table's rows as a DataFrame with the model's feature names; takes what ``to_matrix`` takes."""
    import pandas as pd

    if len(inputs) == 1:
        ((name, array),) = inputs.items()
        if array.ndim > 1 and [name] != list(columns):
            return pd.DataFrame(as_text(array), columns=list(columns) or None)
    return pd.DataFrame({name: _as_read(column) for name, column in to_columns(inputs, columns).items()})


def _as_read(column: Array) -> Array:
    """Return texts with NaN for missing ones, as ``read_csv`` has them."""
    texts = as_text(column)
    if texts.dtype == object:
        texts = np.array([np.nan if text is None else text for text in texts], dtype=object)
    return texts


def to_columns(inputs: Mapping[str, Array], columns: Sequence[str], optional: Collection[str] = ()) -> dict[str, Array]:
    """Return a table's columns of shape ``[n]`` in the model's order; takes what ``to_matrix`` takes.

    Args:
        inputs: The request's tensors.
        columns: The model's columns; empty when it has none, then the request's order counts.
        optional: Those of them that may be left out.
    """
    if len(inputs) == 1 and len(columns) != 1:
        ((_, array),) = inputs.items()
        if array.ndim == 2 and array.shape[1] == len(columns):
            return dict(zip(columns, array.T, strict=True))
    names = [name for name in columns if name in inputs or name not in optional] or list(inputs)
    missing = [name for name in names if name not in inputs]
    unknown = [name for name in inputs if name not in names]
    if missing or unknown:
        problems = [
            f"{what} {', '.join(names[:5])}" for what, names in (("missing", missing), ("unknown", unknown)) if names
        ]
        raise InferenceError(f"the columns are not the model's: {'; '.join(problems)}")
    columns_by_name: dict[str, Array] = {}
    for name in names:
        array = inputs[name]
        if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
            raise InferenceError(f"column {name!r} has shape {list(array.shape)}: send [n] or [n, 1]")
        columns_by_name[name] = array.reshape(-1)
    if len({len(column) for column in columns_by_name.values()}) > 1:
        raise InferenceError("the columns have different lengths")
    return columns_by_name

"""The V1 protocol: ``{"instances": [...]}`` to ``{"predictions": [...]}``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kaptain_magics.serving.protocol.large import LARGE, read_large_instances
from kaptain_magics.serving.protocol.limits import Body
from kaptain_magics.serving.protocol.protocol_errors import RequestError
from kaptain_magics.serving.protocol.tensors import nested_data
from kaptain_magics.serving.protocol.v2 import read_json
from kaptain_magics.serving.signature import Array, Outputs


def read_instances(
    body: Body, input_names: Sequence[str], take: Callable[[int], None] = lambda _: None
) -> dict[str, Array]:
    """Read a request.

    Args:
        body: The whole body. An instance is a value, a list, or an object with a value for every column or input.
        input_names: Names of the model's inputs, at least one: instances that are no objects go to the first; lists in
            which texts and numbers are mixed have a value for each of them.
        take: Counts the bytes of memory that a large request needs, or refuses.

    Raises:
        RequestError: It is not one of the protocol.
    """
    if len(body) > LARGE:
        instances = read_large_instances(body, take)
        if isinstance(instances, np.ndarray):
            return {input_names[0]: instances}
    else:
        instances = read_json(body).get("instances")
    if not isinstance(instances, list) or not instances:
        raise RequestError(400, "instances is missing, empty or not a list")
    if not any(isinstance(instance, dict) for instance in instances):
        if len(input_names) > 1 and _is_mixed(instances, len(input_names)):
            return {name: _array([row[place] for row in instances], name) for place, name in enumerate(input_names)}
        return {input_names[0]: _array(instances, "instances")}
    names = instances[0].keys() if isinstance(instances[0], dict) else ()
    if not names or any(not isinstance(i, dict) or i.keys() != names for i in instances):
        raise RequestError(400, "the instances do not all have the same names")
    return {name: _array([instance[name] for instance in instances], name) for name in names}


def _is_mixed(rows: list[Any], width: int) -> bool:
    """Whether rows are lists with a value for every column, among which are texts."""
    if not all(isinstance(row, list) and len(row) == width for row in rows):
        return False
    return any(isinstance(value, str) for row in rows for value in row)


def _array(values: list[Any], what: str) -> Array:
    try:
        array: Array = np.array(values)
    except (ValueError, OverflowError):
        raise RequestError(400, f"{what}: the values are nested unevenly") from None
    if array.dtype.kind in "UO" and any(isinstance(value, str) for value in np.array(values, dtype=object).ravel()):
        texts = np.array(values, dtype=object).ravel()
        if not all(value is None or isinstance(value, str) for value in texts):
            raise RequestError(400, f"{what}: texts and other values are mixed")
        encoded: Array = np.empty(array.size, dtype=object)
        encoded[:] = [value if value is None else value.encode() for value in texts]
        return encoded.reshape(array.shape)
    if array.dtype.kind == "O":
        try:
            return array.astype(np.float64)  # null is a missing value
        except (ValueError, TypeError):
            raise RequestError(400, f"{what}: a value is neither a number nor a text") from None
    return array


def write_predictions(outputs: Outputs) -> dict[str, Any]:
    """Return the answer: a value per row, or an object per row where the model has several outputs."""
    columns = {name: nested_data(value) for name, value in outputs.items()}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}

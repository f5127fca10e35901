"""The protocol's datatypes and the NumPy dtypes that hold them.

A ``BYTES`` tensor is an object array of ``bytes``; models may answer with ``str`` or ``bytes`` objects, or with NumPy's
own text dtypes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from kaptain_magics.errors import InferenceError

DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def dtype_of(datatype: str) -> np.dtype[np.generic]:
    """Return the NumPy dtype of a datatype such as ``FP32``.

    Raises:
        InferenceError: The protocol has no such datatype.
    """
    try:
        return DTYPES[datatype]
    except (KeyError, TypeError):
        raise InferenceError(f"unknown datatype {datatype!r}: use one of {', '.join(DTYPES)}") from None


def datatype_of(dtype: DTypeLike) -> str:
    """Return the datatype of a NumPy dtype; texts and objects are ``BYTES``.

    Raises:
        InferenceError: No datatype can hold it (complex numbers, dates, records).
    """
    kind = np.dtype(dtype)
    name = _NAMES.get(kind) or _NAMES.get(kind.newbyteorder("="))
    if name is None and kind.kind in "US":
        name = "BYTES"
    if name is None and kind.kind == "f":
        name = "FP64"
    if name is None:
        raise InferenceError(f"no datatype of the protocol holds {kind}")
    return name

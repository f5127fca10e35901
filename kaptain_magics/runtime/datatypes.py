"""The protocol's datatypes by the dtypes of the libraries."""

from __future__ import annotations

_DATATYPES = {
    "bool": "BOOL",
    "boolean": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "bfloat16": "FP32",
    "half": "FP16",
    "float": "FP32",
    "double": "FP64",
}


def datatype_of(dtype: object) -> str:
    """Return the protocol's datatype for a dtype of NumPy, pandas, PyTorch or TensorFlow; others are ``BYTES``."""
    name = str(getattr(dtype, "name", dtype)).lower().rpartition(".")[2]
    return _DATATYPES.get(name, "BYTES")

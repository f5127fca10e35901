"""The binary tensor data extension: tensors as raw little-endian bytes behind the JSON of a request or an answer.

A missing text, which the extension has no form for, is the length 0xFFFFFFFF with nothing behind it.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError
from kaptain_magics.serving.protocol.datatypes import dtype_of
from kaptain_magics.serving.protocol.limits import Body
from kaptain_magics.serving.signature import Array

MISSING = 0xFFFFFFFF  # the length of a text that is missing: nothing follows it, as no text can be so long
_NO_TEXT = struct.pack("<I", MISSING)
HEADER = b"inference-header-content-length"


def split_body(body: Body, header: bytes) -> tuple[Body, memoryview]:
    """Split a request's body into its JSON and its raw tensors.

    Args:
        body: The body.
        header: Value of the header ``Inference-Header-Content-Length``: bytes of the JSON.

    Raises:
        InferenceError: The header is no number, or more than the body.
    """
    if not header.isdigit() or len(header) > 18 or int(header) > len(body):
        raise InferenceError("Inference-Header-Content-Length is not the length of the JSON in the body")
    return body[: int(header)], memoryview(body)[int(header) :]


def read_raw(raw: memoryview, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    """Return the array that ``raw`` holds.

    Args:
        raw: The tensor's bytes.
        datatype: The protocol's datatype.
        shape: The tensor's shape.
        name: The tensor's name, for messages.

    Raises:
        InferenceError: The bytes are not those of such a tensor.
    """
    dtype = dtype_of(datatype)
    count = math.prod(shape)
    if datatype == "BYTES":
        if 4 * count > len(raw):
            raise InferenceError(f"tensor {name!r}: {len(raw)} bytes cannot hold {count} texts")
        return _read_texts(raw, count, name).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        needed = count * dtype.itemsize
        raise InferenceError(f"tensor {name!r}: {datatype} of shape {list(shape)} has {needed} bytes, not {len(raw)}")
    if datatype == "BOOL":
        return (np.frombuffer(raw, dtype=np.uint8) != 0).reshape(shape)
    return np.frombuffer(raw, dtype=dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _read_texts(raw: memoryview, count: int, name: str) -> Array:
    values: list[bytes | None] = []
    offset = 0
    while offset < len(raw) and len(values) <= count:
        if offset + 4 > len(raw):
            break
        (length,) = struct.unpack_from("<I", raw, offset)
        if length == MISSING:
            offset += 4
            values.append(None)
            continue
        offset += 4 + length
        if offset > len(raw):
            break
        values.append(bytes(raw[offset - length : offset]))
    if offset != len(raw) or len(values) != count:
        raise InferenceError(f"tensor {name!r}: its bytes are not {count} texts, each after its length in four bytes")
    array: Array = np.empty(count, dtype=object)
    array[:] = values
    return array


def write_raw(datatype: str, array: Array) -> bytes:
    """Return the raw bytes of a tensor."""
    if datatype != "BYTES":
        return bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return b"".join(_raw_text(value) for value in array.ravel())


def _raw_text(value: Any) -> bytes:
    if value is None:
        return _NO_TEXT
    encoded = value if isinstance(value, bytes) else str(value).encode()
    return struct.pack("<I", len(encoded)) + encoded

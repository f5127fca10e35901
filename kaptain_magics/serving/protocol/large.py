"""Large JSON requests, read in pieces: no more is built than the shape says, and other threads get their turn.

What is counted is counted before anything is built of it. The text was checked to be JSON by then, so that in data
without texts and objects every comma stands between two values, and every bracket is a level of nesting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import orjson

from kaptain_magics.errors import InferenceError
from kaptain_magics.serving.protocol.datatypes import dtype_of
from kaptain_magics.serving.protocol.limits import Body
from kaptain_magics.serving.protocol.protocol_errors import RequestError
from kaptain_magics.serving.protocol.tensors import EXACT, read_data, read_numbers, rounded
from kaptain_magics.serving.signature import Array

Take = Callable[[int], None]  # counts bytes that are about to be used, or refuses

LARGE = 64 * 1024  # bytes up to which a body is read at once: 1 ms (256 kB of ``[],``: 5 ms); a thread costs 0.1 ms
_PIECE = 128 * 1024  # bytes that are read at a time
_SMALL = 64 * 1024  # bytes of everything that is not data
_TENSORS = 10_000  # far more than models have; each costs an object before its data are looked at
_OPENING = re.compile(rb"(?:\[\s*){1,33}")
_TEXT = 128  # bytes of memory that a text takes besides its letters, as one and as bytes
_VALUE = 48  # bytes of memory that a number takes in a list, at most
_LIST = 64  # the same for a list, empty or not
_OBJECT = 360  # the same for an object, empty or not


class _Tensor(msgspec.Struct, gc=False):
    name: msgspec.Raw
    datatype: msgspec.Raw
    shape: msgspec.Raw
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Request(msgspec.Struct):
    inputs: list[_Tensor] | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    outputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Instances(msgspec.Struct):
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_requests = msgspec.json.Decoder(_Request)
_instances = msgspec.json.Decoder(_Instances)


def read_large_json(body: Body) -> dict[str, Any]:
    """Parse a V2 request; the ``data`` of its tensors stays a ``msgspec.Raw``.

    Raises:
        RequestError: It is none, or something else than data is large.
    """
    if body.count(b'"shape"') > _TENSORS:
        raise RequestError(400, f"the request has more than {_TENSORS} inputs")
    request: dict[str, Any] = _set_fields(_decode(_requests, body), ("inputs",))
    tensors = request.get("inputs")
    if tensors is not None:
        request["inputs"] = [_set_fields(tensor, ("data",)) for tensor in tensors]
    return request


def read_large_instances(body: Body, take: Take) -> Any:
    """Parse the instances of a V1 request: an array where they are numbers, else the list.

    Raises:
        RequestError: It is none, or too much.
    """
    raw = _decode(_instances, body).instances
    if raw is msgspec.UNSET:
        return None
    text = bytes(raw)
    if not text.startswith(b"["):
        return None
    values, objects, quotes = text.count(b",") + 1, text.count(b"{"), text.count(b'"')
    if not objects and not quotes:
        shape = _shape_of(text, values)
        if shape is not None:
            take(16 * values)
            parts = [_array(piece, (*shape[1:],), "instances") for piece in _pieces(text, len(shape) - 1, take)]
            return np.concatenate(parts) if parts else None
    take(_VALUE * (values + text.count(b"[")) + _OBJECT * objects + _TEXT * quotes // 2)
    return orjson.loads(text)


def read_large_data(raw: msgspec.Raw, datatype: str, shape: tuple[int, ...], name: str, take: Take) -> Array:
    """Return the array of a tensor's ``data``; see ``tensors.read_data``.

    Args:
        raw: The text.
        datatype: The protocol's datatype.
        shape: The tensor's shape.
        name: The tensor's name, for messages.
        take: Counts the bytes of the array.

    Raises:
        InferenceError: The data is not of that datatype or shape, or too much.
    """
    dtype, count = dtype_of(datatype), math.prod(shape)
    if len(memoryview(raw)) <= LARGE:
        return read_data(orjson.loads(memoryview(raw)), datatype, shape, name)
    text = bytes(raw)
    if not text.startswith(b"["):
        raise InferenceError(f"tensor {name!r}: data is not a list")
    if datatype == "BYTES":
        least = (text.count(b'"') - text.count(b'\\"')) // 2
        if least > count:
            raise _miscounted(shape, least, name)
        take(len(text) + _TEXT * count + _LIST * text.count(b"["))
        return read_data(_read_texts(text, len(shape), name), datatype, shape, name)
    if b'"' in text or b"{" in text:
        raise InferenceError(f"tensor {name!r}: data is not of datatype {datatype}")
    given = text.count(b",") + 1
    if given != count:
        raise _miscounted(shape, given, name)
    lists = text.count(b"[")
    if lists not in (1, _levels(shape)):
        raise InferenceError(f"tensor {name!r}: data is nested unevenly")
    missing = b"null" in text and dtype.kind != "f"  # NaN among whole numbers and truth values: floats then
    take(count * (8 if missing else dtype.itemsize))
    array: Array = np.empty(shape if lists > 1 else count, dtype=np.float64 if missing else dtype)
    offset = 0
    for values in _pieces(text, len(shape) - 1 if lists > 1 else 0, take):
        piece = read_numbers(values, dtype, datatype, name)
        if piece.shape[1:] != array.shape[1:] or offset + len(piece) > len(array):
            raise InferenceError(f"tensor {name!r}: data is nested unevenly")
        if missing and dtype.kind in "iu" and piece.dtype.kind in "iu" and (np.abs(piece) > EXACT).any():
            raise rounded(name)
        array[offset : offset + len(piece)] = piece
        offset += len(piece)
    if offset != len(array):
        raise InferenceError(f"tensor {name!r}: data is nested unevenly")
    return array.reshape(shape)


def _pieces(text: bytes, depth: int, take: Take) -> Iterator[list[Any]]:
    """Yield the elements of a list of lists of ``depth`` levels, some at a time."""
    end = b"]" * depth or b","
    at, stop = text.index(b"[") + 1, text.rindex(b"]")
    while at < stop:
        till = min(at + _PIECE, stop)
        cut = text.rfind(end, at, till) if till < stop else -1
        if cut < 0 and till < stop:
            cut = text.find(end, till - len(end), stop)
        cut = stop if cut < 0 else cut + (len(end) if depth else 0)
        if cut - at > 2 * _PIECE:  # blanks between brackets
            take(_VALUE * (text.count(b",", at, cut) + text.count(b"[", at, cut)))
        try:
            yield orjson.loads(b"[%b]" % text[at:cut])
        except orjson.JSONDecodeError:
            raise RequestError(400, "the data is nested unevenly") from None
        at = cut if not depth else text.find(b",", cut, stop)
        if at < 0:
            return
        at += 1


def _shape_of(text: bytes, values: int) -> tuple[int, ...] | None:
    """Return the shape that numbers have if all elements are like the first one."""
    depth = _opening(text)
    if depth == 1:
        return (values,)
    end = text.find(b"]" * (depth - 1))
    if end < 0 or end > _PIECE:
        return None
    try:
        first = np.shape(orjson.loads(text[text.index(b"[") + 1 : end + depth - 1]))
    except (orjson.JSONDecodeError, ValueError):
        return None
    size = math.prod(first)
    if len(first) != depth - 1 or not size or values % size:
        return None
    shape = (values // size, *first)
    return shape if text.count(b"[") == _levels(shape) else None


def _opening(text: bytes) -> int:
    opening = _OPENING.match(text)
    return opening[0].count(b"[") if opening else 0


def _read_texts(text: bytes, dimensions: int, name: str) -> list[Any]:
    kind: Any = str | None
    for _ in range(dimensions if _opening(text) > 1 else 1):
        kind = list[kind]
    try:
        texts: list[Any] = msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        raise InferenceError(f"tensor {name!r}: data of datatype BYTES is not a list of texts of its shape") from None
    return texts


def _array(values: list[Any], inner: tuple[int, ...], what: str) -> Array:
    try:
        array: Array = np.array(values)
    except (ValueError, OverflowError):
        array = np.empty(0)
    if array.shape[1:] != inner:
        raise RequestError(400, f"{what}: the values are nested unevenly")
    return array


def _levels(shape: tuple[int, ...]) -> int:
    """How many lists nest an array of that shape."""
    return 1 + sum(math.prod(shape[:depth]) for depth in range(1, len(shape)))


def _miscounted(shape: tuple[int, ...], given: int, name: str) -> InferenceError:
    return InferenceError(f"tensor {name!r}: shape {list(shape)} needs {math.prod(shape)} values, not {given}")


def _decode(decoder: Any, body: Body) -> Any:
    try:
        return decoder.decode(body)
    except RecursionError:
        raise RequestError(400, "the body is nested too deep") from None
    except msgspec.ValidationError as error:
        raise RequestError(400, f"the body is not an inference request: {error}") from None
    except msgspec.DecodeError as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None


def _set_fields(struct: msgspec.Struct, kept: tuple[str, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if value is msgspec.UNSET:
            continue
        if name not in kept:
            if len(memoryview(value)) > _SMALL:
                raise RequestError(400, f"{name} has more than {_SMALL} bytes")
            value = orjson.loads(memoryview(value))
        fields[name] = value
    return fields

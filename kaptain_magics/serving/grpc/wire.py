"""A look at an inference request before its message is built: numbers of one byte become many times as much."""

from __future__ import annotations

from kaptain_magics.serving.protocol.protocol_errors import RequestError

_RAW = 7  # number of the field of raw contents
_TYPED = 2 * 1024 * 1024  # bytes of tensors that are no raw contents
_FIELDS = 10_000  # fields of such a message: each becomes an object, however short it is
_FIXED = {1: 8, 5: 4}  # bytes of a field by its wire type


def demand_sizes(message: bytes) -> None:
    """Refuse a ``ModelInferRequest`` that is large without holding raw contents.

    Raises:
        RequestError: 413, tensors are not raw; 400, it is no message.
    """
    if len(message) <= _TYPED:
        return
    offset = fields = typed = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        kind, number = key & 7, key >> 3
        if kind == 2:
            length, offset = _varint(message, offset)
        elif kind == 0:
            start = offset
            _, offset = _varint(message, offset)
            length = 0
            typed += offset - start
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise RequestError(400, "malformed message")
        offset += length
        fields += 1
        if number != _RAW:
            typed += length
        if typed > _TYPED or fields > _FIELDS:
            what = f"more than {_TYPED} bytes of typed contents" if typed > _TYPED else f"more than {_FIELDS} fields"
            raise RequestError(413, f"the request has {what}: send the tensors as raw_input_contents")
    if offset != len(message):
        raise RequestError(400, "malformed message")


def _varint(message: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while offset < len(message) and shift < 70:
        byte = message[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
        shift += 7
    raise RequestError(400, "malformed message")

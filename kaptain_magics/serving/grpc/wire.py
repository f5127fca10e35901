"""A look at an inference request before its message is built: numbers of one byte become many times as much."""

from __future__ import annotations

from kaptain_magics.serving.protocol.protocol_errors import RequestError

_RAW = 7  # number of the field of raw contents
_TYPED = 2 * 1024 * 1024  # bytes of tensors that are no raw contents
_FIELDS = 10_000
_FIXED = {1: 8, 5: 4}  # bytes of a field by its wire type


def demand_sizes(message: bytes) -> None:
    """Refuse a ``ModelInferRequest`` that is large without holding raw contents.

    Raises:
        RequestError: 413, tensors are not raw; 400, it is no message.
    """
    if len(message) <= _TYPED:
        return
    place = fields = typed = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind, number = key & 7, key >> 3
        if kind == 2:
            length, place = _varint(message, place)
        elif kind == 0:
            start = place
            _, place = _varint(message, place)
            length = 0
            typed += place - start
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise RequestError(400, "malformed message")
        place += length
        fields += 1
        if number != _RAW:
            typed += length
        if typed > _TYPED or fields > _FIELDS:
            what = f"more than {_TYPED} bytes of typed contents" if typed > _TYPED else f"more than {_FIELDS} fields"
            raise RequestError(413, f"the request has {what}: send the tensors as raw_input_contents")
    if place != len(message):
        raise RequestError(400, "malformed message")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
    raise RequestError(400, "malformed message")

"""The Open Inference Protocol V2 on HTTP: requests read, answers written."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from kaptain_magics.serving.protocol.binary import HEADER, read_raw, split_body, write_raw
from kaptain_magics.serving.protocol.large import LARGE, read_large_data, read_large_json
from kaptain_magics.serving.protocol.limits import Body
from kaptain_magics.serving.protocol.protocol_errors import JSON, RequestError
from kaptain_magics.serving.protocol.tensors import as_tensor, read_data, read_shape, write_data
from kaptain_magics.serving.signature import Array, Outputs

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_TEXT = 64  # bytes of memory that a text takes besides its letters
_OURS = ("binary_data_output", "binary_data_size", "binary_data")


class Request(NamedTuple):
    """An inference request.

    Attributes:
        id: The request's id, the client's or a new one.
        inputs: The tensors by name.
        outputs: The outputs that are wanted; empty for the default ones.
        binary: Which outputs are wanted raw.
        all_binary: Whether outputs that ``binary`` does not name are wanted raw.
        parameters: The request's parameters that are the model's.
    """

    id: str
    inputs: dict[str, Array]
    outputs: list[str]
    binary: dict[str, bool]
    all_binary: bool
    parameters: dict[str, Any]


def read_json(body: Body | memoryview) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        RequestError: It is none.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise RequestError(400, "the body is not a JSON object")
    return parsed


def _take_all(_: int) -> None:
    """Refuse nothing."""


def read_request(body: Body, header_length: bytes | None, take: Callable[[int], None] = _take_all) -> Request:
    """Read a request's body.

    Args:
        body: The whole body.
        header_length: Value of ``Inference-Header-Content-Length`` where the request has it.
        take: Counts the bytes of memory that a large request needs, or refuses.

    Raises:
        InferenceError: It is not one of the protocol.
    """
    raw = memoryview(b"")
    if header_length is not None:
        body, raw = split_body(body, header_length)
    request = read_json(body) if len(body) <= LARGE else read_large_json(body)
    tensors = request.get("inputs")
    if not isinstance(tensors, list) or not tensors:
        raise RequestError(400, "inputs is missing or not a list (V1 has instances)")
    inputs: dict[str, Array] = {}
    offset = 0
    for tensor in tensors:
        name, array, used = _read_tensor(tensor, raw[offset:], take)
        if name in inputs:
            raise RequestError(400, f"duplicate input {name!r}")
        inputs[name] = array
        offset += used
    if offset != len(raw):
        raise RequestError(400, f"{len(raw) - offset} bytes follow the last binary tensor")
    identity = request.get("id")
    if identity is not None and not isinstance(identity, str):
        raise RequestError(400, "id is not a string")
    parameters = _parameters(request)
    outputs, binary = _read_outputs(request.get("outputs"))
    all_binary = parameters.get("binary_data_output") is True
    for_model = {key: value for key, value in parameters.items() if key not in _OURS} if parameters else {}
    return Request(identity or str(uuid.uuid4()), inputs, outputs, binary, all_binary, for_model)


def _read_tensor(tensor: Any, raw: memoryview, take: Callable[[int], None]) -> tuple[str, Array, int]:
    if not isinstance(tensor, dict):
        raise RequestError(400, "an input is not an object")
    name, datatype = tensor.get("name"), tensor.get("datatype")
    if not isinstance(name, str) or not name:
        raise RequestError(400, "an input has no name")
    if not isinstance(datatype, str):
        raise RequestError(400, f"tensor {name!r} has no datatype")
    shape = read_shape(tensor, name)
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise RequestError(400, f"tensor {name!r} has no data")
        data = tensor["data"]
        if isinstance(data, msgspec.Raw):
            return name, read_large_data(data, datatype, shape, name, take), 0
        return name, read_data(data, datatype, shape, name), 0
    if type(size) is not int or size < 0 or size > len(raw):
        raise RequestError(400, f"tensor {name!r}: binary_data_size is not the number of its bytes in the body")
    if "data" in tensor:
        raise RequestError(400, f"tensor {name!r} has both data and binary_data_size")
    texts = math.prod(shape) if datatype == "BYTES" else 0
    if math.prod(shape) > size or 4 * texts > size:
        raise RequestError(400, f"tensor {name!r}: {size} bytes cannot hold shape {list(shape)}")
    if size > LARGE:
        take(size + _TEXT * texts)
    return name, read_raw(raw[:size], datatype, shape, name), size


def _parameters(owner: dict[str, Any]) -> dict[str, Any]:
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(400, "parameters is not an object")
    return parameters


def _read_outputs(requested: Any) -> tuple[list[str], dict[str, bool]]:
    if requested is None:
        return [], {}
    if not isinstance(requested, list):
        raise RequestError(400, "outputs is not a list")
    names: list[str] = []
    binary: dict[str, bool] = {}
    for output in requested:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name in names:
            raise RequestError(400, "an output has no name or is a duplicate")
        names.append(name)
        flag = _parameters(output).get("binary_data")
        if flag is not None:
            binary[name] = flag is True
    return names, binary


def write_answer(
    request: Request, outputs: Outputs, model: str, version: str | None
) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    """Write the answer to a request.

    Args:
        request: The request.
        outputs: What the model answered.
        model: The model's name.
        version: The version, where the request named one.

    Returns:
        Headers without the length, and the body.
    """
    tensors, raw = write_tensors(outputs, lambda name: request.binary.get(name, request.all_binary))
    for tensor in tensors:
        tensor.setdefault("parameters", None)  # in answers only: a server may refuse it in a request
    head = orjson.dumps(
        {"model_name": model, "model_version": version, "id": request.id, "parameters": None, "outputs": tensors},
        None,
        _OPTIONS,
    )
    if not raw:
        return JSON, head
    length = str(len(head)).encode()
    return ((b"content-type", b"application/octet-stream"), (HEADER, length)), b"".join((head, *raw))


def write_tensors(
    arrays: Mapping[str, Array], is_raw: Callable[[str], bool]
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Write tensors, of a request or of an answer.

    Args:
        arrays: The values by name.
        is_raw: Whether the tensor of that name goes as bytes behind the JSON.

    Returns:
        What ``orjson`` writes of them, and the raw ones' bytes.
    """
    tensors, raw = [], []
    for name, value in arrays.items():
        datatype, array = as_tensor(value)
        tensor: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": datatype}
        if is_raw(name):
            raw.append(write_raw(datatype, array))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = write_data(datatype, array)
        tensors.append(tensor)
    return tensors, raw


def write_json(value: Mapping[str, Any]) -> bytes:
    """Return a JSON object's bytes."""
    return orjson.dumps(value, None, _OPTIONS)

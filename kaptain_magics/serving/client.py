"""Asking an endpoint from Python: arrays, lists, DataFrames and images in, arrays out.

Standard library connections, kept alive; the binary extension where it pays.
"""

from __future__ import annotations

import asyncio
import atexit
import http.client
import math
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import orjson

from kaptain_magics.errors import InferenceError, ServingError
from kaptain_magics.serving.binary import read_raw, write_raw
from kaptain_magics.serving.datatypes import dtype_of
from kaptain_magics.serving.loaders.base import Array, Signature, TensorSpec
from kaptain_magics.serving.tensors import as_answer, read_data, write_data

_KEPT = 16  # connections to one server that wait at most
_LARGE = 256  # values above which a request goes as raw bytes
_PROBABILITIES = ("predict_proba", "probabilities", "output_probability", "probability")
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, http.client.BadStatusLine)
_JSON = {"Content-Type": "application/json"}


class _Description(NamedTuple):
    """What an endpoint says of its model."""

    signature: Signature
    binary: bool


class _Connections:
    """Connections that wait for the next request, shared by all threads."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, str, str], list[http.client.HTTPConnection]] = {}
        self._turn = threading.Lock()
        atexit.register(self.close)

    def take(self, scheme: str, place: str, timeout: float) -> http.client.HTTPConnection:
        """Return a connection to a server, which may be open already."""
        with self._turn:
            waiting = self._waiting.get((os.getpid(), scheme, place))  # a fork must not share its parent's
            connection = waiting.pop() if waiting else None
        if connection is None:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            return kind(place, timeout=timeout)
        connection.timeout = timeout
        connection.sock.settimeout(timeout)
        return connection

    def give_back(self, scheme: str, place: str, connection: http.client.HTTPConnection) -> None:
        """Keep a connection that is still open, but not too many."""
        with self._turn:
            waiting = self._waiting.setdefault((os.getpid(), scheme, place), [])
            if connection.sock is not None and len(waiting) < _KEPT:
                waiting.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close all."""
        for waiting in self._waiting.values():
            for connection in waiting:
                connection.close()
            waiting.clear()


_connections = _Connections()
_described: dict[str, _Description] = {}


def predict(url: str, headers: Mapping[str, str], data: Any, *, timeout: float = 30.0, proba: bool = False) -> Array:
    """Ask an endpoint.

    Args:
        url: The endpoint's URL, ending in ``/infer`` (V2) or ``:predict`` (V1).
        headers: Further headers, such as the token's.
        data: Rows of shape ``[n, features]``; one row; a DataFrame; a dict of columns or named inputs; an image or a
            stack of images, flattened where the model takes flat rows.
        timeout: Seconds to wait for the server.
        proba: Return probabilities instead of classes.

    Returns:
        An array with one row for every row of ``data``: the first output, or the probabilities.

    Raises:
        InferenceError: The endpoint answered with an error.
        ServingError: The endpoint does not answer.
    """
    if urlsplit(url).path.endswith(":predict"):
        return _predict_v1(url, headers, data, timeout, proba)
    for retry in (True, False):
        known = url in _described
        description = _describe(url, headers, timeout)
        try:
            wanted = [_probabilities(description.signature)] if proba else []
            answer = _infer(url, headers, _tensors(data, description.signature), wanted, timeout, description.binary)
            return next(iter(answer.values()))
        except InferenceError:
            _described.pop(url, None)  # another model may be there by now
            if not (known and retry):
                raise
    raise AssertionError


def infer(
    url: str,
    headers: Mapping[str, str],
    inputs: Mapping[str, Any],
    outputs: Sequence[str] = (),
    *,
    timeout: float = 30.0,
) -> dict[str, Array]:
    """Send named tensors as they are and return all outputs (or those named) by name; raises as ``predict``."""
    description = _describe(url, headers, timeout)
    tensors = {name: np.asarray(value) for name, value in inputs.items()}
    return _infer(url, headers, tensors, outputs, timeout, description.binary)


async def predict_async(
    url: str, headers: Mapping[str, str], data: Any, *, timeout: float = 30.0, proba: bool = False
) -> Array:
    """Ask an endpoint without blocking the event loop; see ``predict``."""
    return await asyncio.to_thread(predict, url, headers, data, timeout=timeout, proba=proba)


def predict_batch(
    url: str,
    headers: Mapping[str, str],
    data: Any,
    *,
    rows: int = 1000,
    parallel: int = 2,
    timeout: float = 30.0,
    proba: bool = False,
) -> Array:
    """Ask for many rows in pieces; see ``predict``.

    Args:
        url: The endpoint's URL.
        headers: Further headers.
        data: Rows: an array, a list or a DataFrame.
        rows: Rows of one request.
        parallel: Requests at a time.
        timeout: Seconds to wait for each answer.
        proba: Return probabilities instead of classes.
    """
    table = data if hasattr(data, "iloc") else np.asarray(data)
    if not len(table):
        raise InferenceError("there are no rows to predict")
    pieces = [
        table.iloc[at : at + rows] if hasattr(table, "iloc") else table[at : at + rows]
        for at in range(0, len(table), rows)
    ]

    def ask(piece: Any) -> Array:
        return predict(url, headers, piece, timeout=timeout, proba=proba)

    with ThreadPoolExecutor(max(1, parallel)) as pool:
        return np.concatenate(list(pool.map(ask, pieces)))


# ---- data to tensors -------------------------------------------------------------------------------------------


def _tensors(data: Any, signature: Signature) -> dict[str, Array]:
    if hasattr(data, "columns") and hasattr(data, "dtypes"):
        data = {str(name): data[name].to_numpy() for name in data.columns}
    specs = {spec.name: spec for spec in signature.inputs}
    if isinstance(data, Mapping):
        return {name: _column(value, specs.get(name)) for name, value in data.items()}
    array = _array(data)
    if len(specs) != 1:  # columns, or nothing known: one matrix
        name = "predict" if not specs else next(iter(specs))
        return {name if not specs else "table": array.reshape(1, -1) if array.ndim == 1 else array}
    (spec,) = specs.values()
    return {spec.name: _typed(_fitted(array, spec.shape), spec)}


def _array(data: Any) -> Array:
    array: Array = np.asarray(data)
    if array.dtype == object and array.size and not isinstance(array.flat[0], (str, bytes)):
        with suppress(ValueError, TypeError):
            return array.astype(np.float64)
    if array.ndim == 0:
        return array.reshape(1)
    return array


def _column(value: Any, spec: TensorSpec | None) -> Array:
    array = _array(value)
    return array if spec is None else _typed(_fitted(array, spec.shape) if len(spec.shape) > 1 else array, spec)


def _fitted(array: Array, shape: tuple[int, ...]) -> Array:
    """Return data in the model's shape where there is one way to do so: a batch of one, or flattened images."""
    if _matches(array.shape, shape):
        return array
    if array.ndim == len(shape) - 1 and _matches(array.shape, shape[1:]):
        return array[np.newaxis]
    inner = shape[1:]
    if not inner or any(size < 0 for size in inner):
        return array.reshape(1, -1) if array.ndim == 1 and len(shape) == 2 else array
    if array.size == math.prod(inner):
        return array.reshape(1, *inner)
    if array.ndim > 1 and math.prod(array.shape[1:]) == math.prod(inner):
        return array.reshape(len(array), *inner)
    return array


def _matches(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted, strict=True))


def _typed(array: Array, spec: TensorSpec) -> Array:
    """Return numbers in the model's floating point type, so that no more bytes travel than it uses."""
    wanted = dtype_of(spec.datatype)
    return array.astype(wanted) if wanted.kind == "f" and array.dtype.kind in "fiu" else array


def _probabilities(signature: Signature) -> str:
    for name in _PROBABILITIES:
        if not signature.outputs or any(spec.name == name for spec in signature.outputs):
            return name
    raise InferenceError("this model gives no probabilities")


# ---- requests --------------------------------------------------------------------------------------------------


def _infer(
    url: str,
    headers: Mapping[str, str],
    tensors: Mapping[str, Array],
    outputs: Sequence[str],
    timeout: float,
    binary: bool,
) -> dict[str, Array]:
    raw = binary and sum(array.size for array in tensors.values()) > _LARGE
    told, data = [], []
    for name, value in tensors.items():
        datatype, array = as_answer(value)
        tensor: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": datatype}
        if raw:
            data.append(write_raw(datatype, array))
            tensor["parameters"] = {"binary_data_size": len(data[-1])}
        else:
            tensor["data"] = write_data(datatype, array)
        told.append(tensor)
    request: dict[str, Any] = {"inputs": told}
    if outputs:
        request["outputs"] = [{"name": name} for name in outputs]
    if raw:
        request["parameters"] = {"binary_data_output": True}
    head = orjson.dumps(request, None, orjson.OPT_SERIALIZE_NUMPY)
    sent = {**headers, **_JSON}
    if raw:
        sent = {
            **headers,
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
    body, length = _send("POST", url, sent, b"".join((head, *data)), timeout)
    return _read_outputs(body, length)


def _read_outputs(body: bytes, length: str) -> dict[str, Array]:
    end = int(length) if length else len(body)
    raw, place, found = memoryview(body)[end:], 0, {}
    for tensor in _parsed(body[:end]).get("outputs", ()):
        name, datatype, shape = tensor["name"], tensor["datatype"], tuple(tensor["shape"])
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            array = read_data(tensor["data"], datatype, shape, name)
        else:
            array = read_raw(raw[place : place + size], datatype, shape, name)
            place += size
        found[name] = _texts(array)
    if not found:
        raise InferenceError("the endpoint answered without outputs")
    return found


def _texts(array: Array) -> Array:
    if array.dtype != object:
        return array
    with suppress(UnicodeDecodeError):
        return np.array([value.decode() for value in array.ravel()], dtype=str).reshape(array.shape)
    return array


def _predict_v1(url: str, headers: Mapping[str, str], data: Any, timeout: float, proba: bool) -> Array:
    if proba:
        raise InferenceError("the V1 protocol cannot ask for probabilities: deploy with --protocol v2")
    if hasattr(data, "columns") and hasattr(data, "dtypes"):
        instances: Any = data.to_dict("records")
    elif isinstance(data, Mapping):
        instances = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    else:
        array = _array(data)
        instances = (array.reshape(1, -1) if array.ndim == 1 and array.dtype.kind in "fiub" else array).tolist()
    request = orjson.dumps({"instances": instances}, None, orjson.OPT_SERIALIZE_NUMPY)
    body, _ = _send("POST", url, {**headers, **_JSON}, request, timeout)
    return np.asarray(_parsed(body).get("predictions"))


def _describe(url: str, headers: Mapping[str, str], timeout: float) -> _Description:
    """Return what the endpoint says of its model; asked once, and again after it refused a request."""
    if url not in _described:
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        model = _parsed(_send("GET", f"{base}{parts.path.removesuffix('/infer')}", headers, None, timeout)[0])
        server: dict[str, Any] = {}
        with suppress(InferenceError):
            server = _parsed(_send("GET", f"{base}/v2", headers, None, timeout)[0])
        inputs, outputs = (
            tuple(TensorSpec(t["name"], t["datatype"], tuple(t["shape"])) for t in model.get(side) or ())
            for side in ("inputs", "outputs")
        )
        binary = "binary_tensor_data" in (server.get("extensions") or ())
        _described[url] = _Description(Signature(inputs, outputs), binary)
    return _described[url]


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        return dict(orjson.loads(body))
    except ValueError:
        raise InferenceError(f"the endpoint did not answer in JSON: {body[:200]!r}") from None


def _send(method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: float) -> tuple[bytes, str]:
    """Send a request over a connection that is kept; returns the body and the length of its JSON part."""
    parts = urlsplit(url)
    while True:
        connection = _connections.take(parts.scheme, parts.netloc, timeout)
        used = connection.sock is not None
        try:
            connection.request(method, parts.path, body, dict(headers))
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if used and isinstance(error, _STALE):  # it was closed while nobody asked
                continue
            said = " in time" if isinstance(error, TimeoutError) else f": {error}"
            raise ServingError(
                f"the endpoint at {parts.netloc} does not answer{said}", "%kaptain endpoints shows its state"
            ) from error
        except BaseException:
            connection.close()
            raise
        _connections.give_back(parts.scheme, parts.netloc, connection)
        if answer.status != 200:
            raise InferenceError(_message(answer.status, data))
        return data, answer.headers.get("Inference-Header-Content-Length", "")


def _message(status: int, data: bytes) -> str:
    with suppress(ValueError, AttributeError):
        told = orjson.loads(data).get("error")
        if told:
            return f"{told} (status {status})"
    return f"the endpoint answered with status {status}: {data[:200].decode('utf-8', 'replace')}"

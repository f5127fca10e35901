"""Asking an endpoint from Python: arrays, lists, DataFrames and images in, arrays out.

Over connections that are kept (``pool``); with the binary extension where it pays.
"""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import orjson

from kaptain_magics.errors import InferenceError, ServingError
from kaptain_magics.serving.client import pool
from kaptain_magics.serving.client.inputs import UNNAMED, to_tensors
from kaptain_magics.serving.protocol.binary import read_raw
from kaptain_magics.serving.protocol.tensors import nested_data, read_data
from kaptain_magics.serving.protocol.v2 import write_tensors
from kaptain_magics.serving.signature import Array, Signature, TensorSpec

_LARGE = 256  # values above which a request goes as raw bytes
_MAX_BYTES = 16 * 1024 * 1024  # bytes of one request's raw tensors; half of what our server takes
_MAX_JSON_BYTES = 6 * 1024 * 1024  # the same of JSON
_WRITTEN = 25  # bytes of a number in JSON, at most
_PROBABILITIES = ("predict_proba", "probabilities", "output_probability", "probability")
_PROBA = _PROBABILITIES[0]
_NONE: Mapping[str, str] = {}
_JSON = {"Content-Type": "application/json"}


class _Endpoint(NamedTuple):
    """Where requests go, the headers that they need, and the seconds to wait for each answer."""

    url: str
    headers: Mapping[str, str]
    timeout: float

    @property
    def uses_v1(self) -> bool:
        return urlsplit(self.url).path.endswith(":predict")


class _Description(NamedTuple):
    """What an endpoint says of its model."""

    signature: Signature
    binary: bool


_described: dict[str, _Description] = {}


def predict(
    url: str,
    headers: Mapping[str, str],
    data: Any,
    *,
    timeout: float = 30.0,
    proba: bool = False,
    output: str = "",
) -> Array:
    """Ask an endpoint; what is too much for one request goes in several, one after another.

    Args:
        url: The endpoint's URL, ending in ``/infer`` (V2) or ``:predict`` (V1).
        headers: Further headers, such as the token's.
        data: Rows, one row, a table, records, named inputs or samples, as ``inputs.to_tensors`` takes them.
        timeout: Seconds to wait for the server.
        proba: Return probabilities instead of classes.
        output: Return this one of the model's outputs, such as ``decision_function``.

    Returns:
        An array with one row for every row of ``data``: the first output, the probabilities, or what was asked for.

    Raises:
        InferenceError: The endpoint answered with an error.
        ServingError: The endpoint does not answer.
    """
    return _predict(_Endpoint(url, headers, timeout), data, output or (_PROBA if proba else ""))


def infer(
    url: str,
    headers: Mapping[str, str],
    inputs: Mapping[str, Any],
    outputs: Sequence[str] = (),
    *,
    timeout: float = 30.0,
) -> dict[str, Array]:
    """Send named tensors as they are and return all outputs (or those named) by name; raises as ``predict``."""
    endpoint = _Endpoint(url, headers, timeout)
    tensors = {name: np.asarray(value) for name, value in inputs.items()}
    return _infer(endpoint, tensors, outputs, _describe(endpoint).binary)


def describe(url: str, headers: Mapping[str, str], *, timeout: float = 30.0) -> Signature:
    """Return what the endpoint's model takes and answers; raises as ``predict``."""
    _described.pop(url, None)
    return _describe(_Endpoint(url, headers, timeout)).signature


async def predict_async(
    url: str,
    headers: Mapping[str, str],
    data: Any,
    *,
    timeout: float = 30.0,
    proba: bool = False,
    output: str = "",
) -> Array:
    """Ask an endpoint without blocking the event loop; see ``predict``."""
    return await asyncio.to_thread(predict, url, headers, data, timeout=timeout, proba=proba, output=output)


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
        data: What ``predict`` takes.
        rows: Rows of one request.
        parallel: Requests at a time.
        timeout: Seconds to wait for each answer.
        proba: Return probabilities instead of classes.
    """
    return _predict(_Endpoint(url, headers, timeout), data, _PROBA if proba else "", rows, parallel)


def forget(url: str) -> None:
    """Forget what was learned of an endpoint: after a deployment another model may be there, behind another server.

    The model that was there may have taken the columns in another order, and connections that wait may lead to a
    server that still leaves.
    """
    _described.pop(url, None)
    pool.forget(url)


# ---- requests --------------------------------------------------------------------------------------------------


def _predict(endpoint: _Endpoint, data: Any, output: str, rows: int | None = None, parallel: int = 1) -> Array:
    if output and endpoint.uses_v1:
        what = "probabilities" if output == _PROBA else output
        raise InferenceError(f"the V1 protocol cannot ask for {what}: deploy with --protocol v2")
    if hasattr(data, "tocsr") and data.shape[0] > (some := max(1, _MAX_BYTES // (8 * max(1, data.shape[1])))):
        sparse = data.tocsr()  # never dense as a whole
        parts = (sparse[at : at + some] for at in range(0, sparse.shape[0], some))
        return np.concatenate([_predict(endpoint, part, output, rows, parallel) for part in parts])
    for retry in (True, False):
        cached = endpoint.url in _described
        description = _describe(endpoint)
        try:
            outputs = [_output(output, description.signature)] if output else []
            ask = partial(_ask, endpoint, description, outputs)
            raw = description.binary and not endpoint.uses_v1
            pieces = _pieces(to_tensors(data, description.signature), rows, raw)
            if len(pieces) == 1:
                return ask(pieces[0])
            with ThreadPoolExecutor(max(1, parallel)) as threads:
                return np.concatenate(list(threads.map(ask, pieces)))
        except InferenceError:
            _described.pop(endpoint.url, None)  # another model may be there by now
            if not (cached and retry):
                raise
    raise AssertionError


def _ask(endpoint: _Endpoint, description: _Description, outputs: Sequence[str], tensors: Mapping[str, Array]) -> Array:
    if endpoint.uses_v1:
        return _infer_v1(endpoint, tensors, description.signature)
    return next(iter(_infer(endpoint, tensors, outputs, description.binary).values()))


def _pieces(tensors: dict[str, Array], rows: int | None, raw: bool) -> list[dict[str, Array]]:
    count = max(len(array) for array in tensors.values())
    if rows is None:  # what a server takes at once has a limit
        size = sum(a.size * (a.itemsize if raw and a.dtype != object else _WRITTEN) for a in tensors.values())
        rows = max(1, count * (_MAX_BYTES if raw else _MAX_JSON_BYTES) // max(1, size))
    if count <= rows:
        return [tensors]
    return [{name: array[at : at + rows] for name, array in tensors.items()} for at in range(0, count, rows)]


def labels(url: str, headers: Mapping[str, str], *, timeout: float = 30.0) -> tuple[Any, ...]:
    """Return the labels that the columns of the probabilities stand for; nothing where the model has none."""
    signature = _describe(_Endpoint(url, headers, timeout)).signature
    return next((spec.classes for spec in signature.outputs if spec.classes), ())


def _output(name: str, signature: Signature) -> str:
    """Return an output's own name; probabilities have several."""
    known = [spec.name for spec in signature.outputs]
    for candidate in _PROBABILITIES if name == _PROBA else (name,):
        if not known or candidate in known:
            return candidate
    if name == _PROBA:
        raise InferenceError("this model gives no probabilities")
    raise InferenceError(f"this model has no output {name!r}", f"it has {', '.join(known)}")


def _infer(endpoint: _Endpoint, tensors: Mapping[str, Array], outputs: Sequence[str], binary: bool) -> dict[str, Array]:
    raw = binary and sum(array.size for array in tensors.values()) > _LARGE
    inputs, data = write_tensors(tensors, lambda _: raw)
    request: dict[str, Any] = {"inputs": inputs}
    if outputs:
        request["outputs"] = [{"name": name} for name in outputs]
    if raw:
        request["parameters"] = {"binary_data_output": True}
    head = orjson.dumps(request, None, orjson.OPT_SERIALIZE_NUMPY)
    headers = _JSON
    if raw:
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    body, length = _send(endpoint, "POST", endpoint.url, b"".join((head, *data)), headers)
    return _read_outputs(body, length)


def _read_outputs(body: bytes, length: str) -> dict[str, Array]:
    end = int(length) if length else len(body)
    raw, offset, outputs = memoryview(body)[end:], 0, {}
    for tensor in _parsed(body[:end]).get("outputs", ()):
        name, datatype, shape = tensor["name"], tensor["datatype"], tuple(tensor["shape"])
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            array = read_data(tensor["data"], datatype, shape, name)
        else:
            array = read_raw(raw[offset : offset + size], datatype, shape, name)
            offset += size
        outputs[name] = _texts(array)
    if not outputs:
        raise InferenceError("the endpoint answered without outputs")
    return outputs


def _texts(array: Array) -> Array:
    if array.dtype != object:
        return array
    with suppress(UnicodeDecodeError):
        return np.array([value.decode() for value in array.ravel()], dtype=str).reshape(array.shape)
    return array


def _infer_v1(endpoint: _Endpoint, tensors: Mapping[str, Array], signature: Signature) -> Array:
    columns = {name: nested_data(array) for name, array in tensors.items()}
    instances: list[Any]
    if len(columns) == 1 and (signature.inputs or UNNAMED in columns):
        (instances,) = columns.values()
    else:
        instances = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    body, _ = _send(endpoint, "POST", endpoint.url, orjson.dumps({"instances": instances}), _JSON)
    return np.asarray(_parsed(body).get("predictions"))


def _describe(endpoint: _Endpoint) -> _Description:
    """Return what the endpoint says of its model; asked once, and again after it refused a request."""
    if endpoint.url not in _described:
        parts = urlsplit(endpoint.url)
        base = f"{parts.scheme}://{parts.netloc}"
        model: dict[str, Any] = {}
        server: dict[str, Any] = {}
        if endpoint.uses_v1:  # it has no metadata of its own, but many servers speak both
            path = parts.path.removesuffix(":predict").replace("/v1/", "/v2/", 1)
            with suppress(InferenceError):
                model = _parsed(_send(endpoint, "GET", f"{base}{path}")[0])
        else:
            model = _parsed(_send(endpoint, "GET", f"{base}{parts.path.removesuffix('/infer')}")[0])
            with suppress(InferenceError):
                server = _parsed(_send(endpoint, "GET", f"{base}/v2")[0])
        inputs, outputs = (tuple(_spec(tensor) for tensor in model.get(side) or ()) for side in ("inputs", "outputs"))
        binary = "binary_tensor_data" in (server.get("extensions") or ())
        _described[endpoint.url] = _Description(Signature(inputs, outputs), binary)
    return _described[endpoint.url]


def _spec(tensor: Mapping[str, Any]) -> TensorSpec:
    """Return an input or output as the metadata has it; other servers lack our parameters."""
    known = tensor.get("parameters") or {}
    return TensorSpec(
        tensor["name"],
        tensor["datatype"],
        tuple(tensor["shape"]),
        on_request=known.get("on_request") is True,
        dtype=str(known.get("dtype") or ""),
        nullable=known.get("nullable") is True,
        optional=known.get("optional") is True,
        classes=tuple(known.get("classes") or ()),
    )


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        return dict(orjson.loads(body))
    except ValueError:
        raise InferenceError(f"the endpoint did not answer in JSON: {body[:200]!r}") from None


def _send(
    endpoint: _Endpoint, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] = _NONE
) -> tuple[bytes, str]:
    """Send a request; returns the body of the answer and the length of its JSON part."""
    try:
        answer = pool.request(method, url, {**endpoint.headers, **headers}, body, endpoint.timeout)
    except (OSError, http.client.HTTPException) as error:
        why = " in time" if isinstance(error, TimeoutError) else f": {error}"
        raise ServingError(
            f"the endpoint at {urlsplit(url).netloc} does not answer{why}", "%kaptain endpoints shows its state"
        ) from error
    if answer.status != 200:
        raise InferenceError(_message(answer.status, answer.body), status=answer.status)
    return answer.body, answer.headers.get("Inference-Header-Content-Length", "")


def _message(status: int, data: bytes) -> str:
    with suppress(ValueError, AttributeError):
        message = orjson.loads(data).get("error")
        if message:
            return f"{message} (status {status})"
    return f"the endpoint answered with status {status}: {data[:200].decode('utf-8', 'replace')}"

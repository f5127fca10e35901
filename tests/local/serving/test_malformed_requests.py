"""What is no request of the protocol gets the protocol's error, and the server goes on."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.servers import JSON, ModelServer, tensor

INFER = "/v2/models/m/infer"
GOOD = tensor("x", "INT64", [1], [1])


def body(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def sized(size: Any, datatype: str = "FP32", shape: Any = (1,)) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": size}}


BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b"\xff\xfe{}",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "NaN": b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [NaN]}]}',
    "deeply nested": b"[" * 100_000,
    "deep data": b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"data":' + b"[" * 500 + b"]" * 500 + b"}]}",
    "deep numbers": b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":'
    + b"[" * 500
    + b"1"
    + b"]" * 500
    + b"}]}",
    "no inputs": b"{}",
    "empty inputs": b'{"inputs": []}',
    "inputs no list": b'{"inputs": {}}',
    "input no object": body(1),
    "no name": body({"datatype": "INT64", "shape": [1], "data": [1]}),
    "empty name": body(tensor("", "INT64", [1], [1])),
    "name no text": body(tensor(1, "INT64", [1], [1])),  # type: ignore[arg-type]
    "twice": body(GOOD, GOOD),
    "no datatype": body({"name": "x", "shape": [1], "data": [1]}),
    "unknown datatype": body(tensor("x", "INT99", [1], [1])),
    "datatype no text": body(tensor("x", 1, [1], [1])),  # type: ignore[arg-type]
    "no shape": body({"name": "x", "datatype": "INT64", "data": [1]}),
    "negative shape": body(tensor("x", "INT64", [-1], [1])),
    "shape of texts": body(tensor("x", "INT64", ["1"], [1])),  # type: ignore[list-item]
    "shape of reals": body(tensor("x", "INT64", [1.0], [1])),  # type: ignore[list-item]
    "huge shape": body(tensor("x", "INT64", [10**18, 10**18], [1])),
    "wrong shape": body(tensor("x", "INT64", [2], [1])),
    "no data": body({"name": "x", "datatype": "INT64", "shape": [1]}),
    "data no list": body(tensor("x", "INT64", [1], 1)),
    "data of texts": body(tensor("x", "INT64", [1], ["1"])),
    "uneven data": body(tensor("x", "INT64", [3], [[1, 2], [3]])),
    "too large a number": body(tensor("x", "INT8", [1], [1000])),
    "real for whole": body(tensor("x", "INT64", [1], [0.5])),
    "number for text": body(tensor("x", "BYTES", [1], [1])),
    "parameters no object": body(GOOD, parameters=[]),
    "tensor parameters no object": body({**GOOD, "parameters": 1}),
    "id no text": body(GOOD, id=1),
    "outputs no list": body(GOOD, outputs={}),
    "output without name": body(GOOD, outputs=[{}]),
    "output twice": body(GOOD, outputs=[{"name": "x"}, {"name": "x"}]),
    "unknown output": body(GOOD, outputs=[{"name": "zz"}]),
    "data and binary": body({**GOOD, "parameters": {"binary_data_size": 0}}),
    "too many rows": body(tensor("x", "INT8", [6000], [0] * 6000)),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_bad_body(echo: ModelServer, case: str) -> None:
    status, answer, headers = echo.request("POST", INFER, BAD_BODIES[case], JSON)
    assert status == 400, answer
    assert headers["content-type"] == "application/json"
    body = json.loads(answer)
    assert list(body) == ["error"]
    assert body["error"]
    assert "Traceback" not in body["error"]


BAD_BINARY: dict[str, tuple[bytes, bytes, str]] = {
    "size over the body": (body(sized(8)), b"1234", ""),
    "negative size": (body(sized(-1)), b"", ""),
    "size no number": (body(sized("4")), b"1234", ""),
    "size not the shape's": (body(sized(3)), b"123", ""),
    "bytes left over": (body(sized(4)), b"12345", ""),
    "huge shape": (body(sized(4, "FP32", (1 << 40, 1 << 40))), b"1234", ""),
    "broken text": (body(sized(4, "BYTES")), b"\xfe\xff\xff\xff", ""),
    "text too short": (body(sized(3, "BYTES")), b"\x00\x00\x00", ""),
    "too many texts": (body(sized(8, "BYTES")), b"\x00" * 8, ""),
    "header no number": (body(sized(4)), b"1234", "x"),
    "header over the body": (body(sized(4)), b"1234", "100000"),
    "header in the middle": (body(sized(4)), b"1234", "5"),
}


@pytest.mark.parametrize("case", BAD_BINARY)
def test_bad_binary_tensors(echo: ModelServer, case: str) -> None:
    head, raw, length = BAD_BINARY[case]
    sent = {"Inference-Header-Content-Length": length or str(len(head)), "Content-Type": "application/octet-stream"}
    status, answer, _ = echo.request("POST", INFER, head + raw, sent)
    assert status == 400, answer
    assert list(json.loads(answer)) == ["error"]


BAD_CALLS: dict[str, tuple[str, str, bytes | None, dict[str, str], int]] = {
    "unknown path": ("GET", "/", None, {}, 404),
    "unknown model": ("GET", "/v2/models/other", None, {}, 404),
    "unknown model's ready": ("GET", "/v2/models/other/ready", None, {}, 404),
    "infer on an unknown model": ("POST", "/v2/models/other/infer", body(GOOD), JSON, 404),
    "unknown version": ("POST", "/v2/models/m/versions/9/infer", body(GOOD), JSON, 404),
    "unknown V1 model": ("POST", "/v1/models/other:predict", b"{}", JSON, 404),
    "a path with %": ("GET", "/v2/models/%2e%2e%2f", None, {}, 404),
    "GET infer": ("GET", INFER, None, {}, 405),
    "PUT infer": ("PUT", INFER, body(GOOD), JSON, 405),
    "DELETE model": ("DELETE", "/v2/models/m", None, {}, 405),
    "POST health": ("POST", "/v2/health/live", b"{}", JSON, 405),
    "OPTIONS": ("OPTIONS", INFER, None, {}, 405),
    "a form of a page": (
        "POST",
        INFER,
        body(GOOD),
        {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"},
        415,
    ),
    "plain text": ("POST", INFER, body(GOOD), {"Content-Type": "text/plain"}, 415),
    "unknown encoding": ("POST", INFER, body(GOOD), {**JSON, "Content-Encoding": "br"}, 415),
    "broken gzip": ("POST", INFER, b"no gzip", {**JSON, "Content-Encoding": "gzip"}, 400),
    "half gzip": ("POST", INFER, gzip.compress(body(GOOD))[:-9], {**JSON, "Content-Encoding": "gzip"}, 400),
    "gzip bomb": ("POST", INFER, gzip.compress(b" " * 50_000_000), {**JSON, "Content-Encoding": "gzip"}, 413),
    "too large": ("POST", INFER, b" " * 1_000_001, JSON, 413),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_call(echo: ModelServer, case: str) -> None:
    method, path, sent, headers, expected = BAD_CALLS[case]
    status, answer, got = echo.request(method, path, sent, headers)
    assert status == expected, answer
    assert list(json.loads(answer)) == ["error"]
    if expected == 405:
        assert got["allow"] in ("GET", "POST")


BAD_HTTP: dict[str, tuple[bytes, int]] = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "binary": (bytes(range(256)) * 4, 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "bad length": (b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "bad chunk": (b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "bad header": (b"GET /v2 HTTP/1.1\r\nHost x\r\n\r\n", 400),
    "huge head": (b"GET /v2 HTTP/1.1\r\n" + b"X-A: " + b"a" * 100_000, 431),
    "many headers": (b"GET /v2 HTTP/1.1\r\n" + b"X-A: a\r\n" * 10_000, 431),
    "huge path": (b"GET /" + b"a" * 100_000, 431),
    "declared too large": (
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        413,
    ),
    "chunks too large": (
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 20,
        413,
    ),
}


def test_the_answer_to_a_body_that_is_too_large_is_never_lost(echo: ModelServer) -> None:
    for _ in range(100):
        status, answer, _ = echo.request("POST", INFER, b" " * 4_000_001, JSON)
        assert status == 413, answer


@pytest.mark.parametrize("case", BAD_HTTP)
def test_what_is_no_http(echo: ModelServer, case: str) -> None:
    sent, expected = BAD_HTTP[case]
    head, _, answer = echo.raw(sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % expected), head
    assert b"connection: close" in head.lower()
    assert list(json.loads(answer)) == ["error"]


def test_the_model_decides_shape_and_type(digits_server: ModelServer) -> None:
    for bad in (
        tensor("predict", "FP32", [1, 63], [0.0] * 63),
        tensor("predict", "FP32", [64], [0.0] * 64),
        tensor("predict", "FP32", [1, 8, 8], [0.0] * 64),
        tensor("predict", "BYTES", [1, 64], ["a"] * 64),
        tensor("predict", "FP32", [1, 64], [None] * 64),
        tensor("predict", "FP32", [0, 64], []),
    ):
        status, answer = digits_server.infer({"inputs": [bad]})
        assert status == 400, answer
        assert list(answer) == ["error"]
    two = [tensor("a", "FP32", [1, 64], [0.0] * 64), tensor("b", "FP32", [1, 64], [0.0] * 64)]
    assert digits_server.infer({"inputs": two})[0] == 400


def test_the_server_is_none_the_worse(echo: ModelServer) -> None:
    assert echo.infer({"inputs": [GOOD]})[0] == 200
    assert echo.process.poll() is None
    assert "Traceback" not in echo.log

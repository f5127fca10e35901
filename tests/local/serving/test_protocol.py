"""The Open Inference Protocol on a real server: metadata, inference, versions, parameters, binary tensors, V1."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kaptain_magics.serving.protocol.binary import read_raw, write_raw
from kaptain_magics.serving.protocol.datatypes import DTYPES
from tests.servers import JSON, ModelServer, predictor, tensor

INFER = "/v2/models/dev-mnist/infer"


def test_health_and_metadata(digits_server: ModelServer) -> None:
    assert digits_server.get("/v2/health/live") == (200, {"live": True})
    assert digits_server.get("/v2/health/ready") == (200, {"ready": True})
    status, server = digits_server.get("/v2")
    assert (status, server["name"], server["extensions"]) == (200, "kaptain-magics", ["binary_tensor_data"])
    status, model = digits_server.get("/v2/models/dev-mnist")
    assert status == 200
    assert model["versions"] == ["1"]
    assert model["platform"] == "sklearn_joblib"
    assert model["inputs"] == [{"name": "predict", "datatype": "FP64", "shape": [-1, 64]}]
    assert model["outputs"][0] == {"name": "predict", "datatype": "INT64", "shape": [-1]}
    assert model["outputs"][1]["name"] == "decision_function"
    assert model["outputs"][1]["parameters"] == {"on_request": True, "classes": list(range(10))}
    assert digits_server.get("/v2/models/dev-mnist/ready") == (200, {"name": "dev-mnist", "ready": True})
    assert digits_server.get("/v2/models/dev-mnist/versions/1") == (200, model)
    assert digits_server.get("/v2/models/dev-mnist/versions/1/ready")[0] == 200
    status, body, headers = digits_server.request("HEAD", "/v2")
    assert (status, body) == (200, b"")
    assert headers["content-type"] == "application/json"


def test_the_tutorials_request(digits_server: ModelServer, digits: Any, tmp_path: Path) -> None:
    data = digits.images.reshape(len(digits.images), -1).tolist()
    request = {"inputs": [{"name": "predict", "shape": [1, 64], "datatype": "FP32", "data": data[7]}]}
    (tmp_path / "input.json").write_text(json.dumps(request))
    command = ["curl", "--location", "--silent", "--fail", "--header", "Content-Type: application/json"]
    command += [digits_server.url, "-d@" + str(tmp_path / "input.json")]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    identity = answer.pop("id")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", identity)
    output = {"name": "predict", "shape": [1], "datatype": "INT64", "parameters": None, "data": [7]}
    assert answer == {"model_name": "dev-mnist", "model_version": None, "parameters": None, "outputs": [output]}


def test_id_version_and_names(digits_server: ModelServer, digits: Any) -> None:
    request = {"id": "mine", "inputs": [tensor("anything", "FP64", [2, 64], digits.data[:2].tolist())]}
    status, answer = digits_server.infer(request, "/v2/models/dev-mnist/versions/1/infer")
    assert (status, answer["id"], answer["model_version"]) == (200, "mine", "1")
    assert answer["outputs"][0]["data"] == [0, 1]


def test_outputs_on_request(digits_server: ModelServer, digits: Any, digits_folder: Path) -> None:
    model = joblib.load(digits_folder / "model.joblib")
    request = {
        "inputs": [tensor("predict", "FP64", [3, 64], digits.data[:3].ravel().tolist())],
        "outputs": [{"name": "decision_function"}, {"name": "predict"}],
    }
    _, answer = digits_server.infer(request)
    first, second = answer["outputs"]
    assert (first["name"], first["shape"], second["name"]) == ("decision_function", [3, 10], "predict")
    np.testing.assert_allclose(np.reshape(first["data"], (3, 10)), model.decision_function(digits.data[:3]))
    status, answer = digits_server.infer({**request, "outputs": [{"name": "predict_proba"}]})
    assert status == 400
    assert "predict_proba" in answer["error"]


def encoded(value: Any) -> Any:
    return [v.decode() for v in value.ravel()] if value.dtype == object else value.ravel().tolist()


SAMPLES = {
    name: np.array([b"a", b"", "\u00fc".encode(), b"b"], dtype=object).reshape(2, 2)
    if name == "BYTES"
    else np.array([[0, 1], [1, 0]]).astype(dtype)
    for name, dtype in DTYPES.items()
}


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_comes_back(echo: ModelServer, datatype: str) -> None:
    sample = SAMPLES[datatype]
    inputs = [tensor("flat", datatype, [2, 2], encoded(sample))]
    inputs += [tensor("nested", datatype, [2, 2], np.reshape(np.array(encoded(sample), dtype=object), (2, 2)).tolist())]
    inputs += [tensor("empty", datatype, [0, 3], [])]
    status, answer = echo.infer({"inputs": inputs})
    assert status == 200, answer
    flat, nested, empty = answer["outputs"]
    assert flat["data"] == nested["data"] == encoded(sample)
    assert (flat["datatype"], flat["shape"]) == (datatype, [2, 2])
    assert (empty["datatype"], empty["shape"], empty["data"]) == (
        "BYTES" if datatype == "BYTES" else datatype,
        [0, 3],
        [],
    )


def binary(server: ModelServer, request: dict[str, Any], raw: bytes, **headers: str) -> tuple[dict[str, Any], bytes]:
    head = json.dumps(request).encode()
    sent = {"Inference-Header-Content-Length": str(len(head)), **headers}
    status, body, got = server.request("POST", f"/v2/models/{server.name}/infer", head + raw, sent)
    assert status == 200, body
    length = int(got.get("inference-header-content-length", len(body)))
    assert got["content-type"] == ("application/octet-stream" if length < len(body) else "application/json")
    return json.loads(body[:length]), body[length:]


@pytest.mark.parametrize("datatype", DTYPES)
def test_binary_tensors_of_every_datatype(echo: ModelServer, datatype: str) -> None:
    sample = SAMPLES[datatype]
    raw = write_raw(datatype, sample)
    tensor = {"name": "x", "datatype": datatype, "shape": [2, 2], "parameters": {"binary_data_size": len(raw)}}
    request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    answer, data = binary(echo, request, raw)
    assert answer["outputs"][0]["parameters"] == {"binary_data_size": len(data)}
    assert "data" not in answer["outputs"][0]
    np.testing.assert_array_equal(read_raw(memoryview(data), datatype, (2, 2), "x"), sample)
    request = {"inputs": [tensor], "outputs": [{"name": "x", "parameters": {"binary_data": False}}]}
    answer, data = binary(echo, request, raw)
    assert answer["outputs"][0]["data"] == encoded(sample)
    assert not data


def test_binary_and_json_tensors_together(echo: ModelServer) -> None:
    one, two = np.arange(3, dtype=np.float32), np.array([b"\xff\x00", b""], dtype=object)
    raw = [write_raw("FP32", one), write_raw("BYTES", two)]
    request = {
        "inputs": [
            {"name": "one", "datatype": "FP32", "shape": [3], "parameters": {"binary_data_size": len(raw[0])}},
            tensor("plain", "INT8", [2], [1, -1]),
            {"name": "two", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(raw[1])}},
        ],
        "outputs": [{"name": "one", "parameters": {"binary_data": True}}, {"name": "plain"}],
    }
    status, body, _ = echo.request(
        "POST",
        "/v2/models/m/infer",
        (head := json.dumps(request).encode()) + b"".join(raw),
        {"Inference-Header-Content-Length": str(len(head))},
    )
    assert status == 400  # bytes that are no text cannot be given to a plain predictor
    assert b"error" in body
    request["inputs"].pop()
    answer, data = binary(echo, request, raw[0])
    assert [o["name"] for o in answer["outputs"]] == ["one", "plain"]
    assert data == raw[0]
    assert answer["outputs"][1]["data"] == [1, -1]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_requests(echo: ModelServer, encoding: str, pack: Any) -> None:
    body = pack(json.dumps({"inputs": [tensor("x", "INT64", [1], [1])]}).encode())
    status, answer, _ = echo.request("POST", "/v2/models/m/infer", body, {**JSON, "Content-Encoding": encoding})
    assert status == 200, answer


def test_bodies_in_chunks_and_expect_continue(echo: ModelServer) -> None:
    body = json.dumps({"inputs": [tensor("x", "INT64", [1], [1])]}).encode()
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:])) + b"0\r\n\r\n"
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    assert b" 200 " in echo.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces)
    answer = echo.raw(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 200 ")  # it did not wait


def test_pipelined_requests_are_answered_in_order(echo: ModelServer) -> None:
    def request(number: int, more: bytes) -> bytes:
        body = json.dumps({"id": str(number), "inputs": [tensor("x", "INT64", [1], [number])]}).encode()
        return b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (
            more,
            len(body),
            body,
        )

    sent = b"".join(request(n, b"Connection: close\r\n" if n == 19 else b"") for n in range(20))
    answers = re.findall(rb'"id":"(\d+)"', echo.raw(sent))
    assert answers == [b"%d" % n for n in range(20)]


def test_parameters_reach_the_model(tmp_path: Path, echo: ModelServer) -> None:
    status, answer = echo.infer({"parameters": {"temperature": 0.5}, "inputs": [tensor("x", "INT8", [1], [1])]})
    assert status == 200, answer


@pytest.fixture(scope="module")
def table_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table") / "model"
    folder.mkdir()
    frame = pd.DataFrame({"size": [1.0, 2, 3, 4] * 5, "kind": ["x", "y", "x", "z"] * 5})
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["size"]))
    joblib.dump(make_pipeline(columns, LogisticRegression()).fit(frame, ["no", "yes"] * 10), folder / "model.joblib")
    return folder


def test_named_columns_and_probabilities(table_folder: Path) -> None:
    with ModelServer(table_folder, "sklearn") as server:
        _, model = server.get("/v2/models/m")
        assert [(t["name"], t["datatype"], t["shape"]) for t in model["inputs"]] == [
            ("size", "FP64", [-1]),
            ("kind", "BYTES", [-1]),
        ]
        assert model["outputs"][0]["datatype"] == "BYTES"
        columns = [tensor("kind", "BYTES", [2], ["x", "z"]), tensor("size", "FP64", [2, 1], [[1], [4]])]
        status, answer = server.infer({"inputs": columns, "parameters": {"predict_proba": True}})
        assert status == 200, answer
        predicted, probabilities = answer["outputs"]
        assert set(predicted["data"]) <= {"yes", "no"}
        assert probabilities["shape"] == [2, 2]
        expected = joblib.load(table_folder / "model.joblib")
        frame = pd.DataFrame({"size": [1.0, 4.0], "kind": ["x", "z"]})
        assert predicted["data"] == expected.predict(frame).tolist()
        np.testing.assert_allclose(np.reshape(probabilities["data"], (2, 2)), expected.predict_proba(frame))
        for wrong in (columns[:1], [*columns, tensor("more", "FP64", [2], [1, 2])]):
            status, answer = server.infer({"inputs": wrong})
            assert status == 400
            assert "size, kind" in answer["error"]
        unequal = [tensor("kind", "BYTES", [1], ["x"]), columns[1]]
        assert server.infer({"inputs": unequal})[0] == 400
        rows = {"instances": [{"kind": "x", "size": 1}, {"size": 4, "kind": "z"}]}
        assert server.infer(rows, "/v1/models/m:predict") == (200, {"predictions": predicted["data"]})


def test_v1(digits_server: ModelServer, digits: Any) -> None:
    path = "/v1/models/dev-mnist:predict"
    status, answer = digits_server.infer({"instances": digits.data[:5].tolist()}, path)
    assert (status, answer) == (200, {"predictions": [0, 1, 2, 3, 4]})
    assert digits_server.get("/v1/models/dev-mnist") == (200, {"name": "dev-mnist", "ready": True})
    for wrong in (
        {},
        {"instances": []},
        {"instances": 1},
        {"instances": [[1], [1, 2]]},
        {"instances": [{"a": 1}, {"b": 1}]},
    ):
        status, answer = digits_server.infer(wrong, path)
        assert status == 400
        assert list(answer) == ["error"]


def test_v1_with_several_outputs(tmp_path: Path) -> None:
    source = "def predict(inputs):\n    (x,) = inputs.values()\n    return {'twice': x * 2, 'name': x.astype(str)}\n"
    with ModelServer(predictor(tmp_path / "two", source), "python") as server:
        _, answer = server.infer({"instances": [1, 2]}, "/v1/models/m:predict")
        assert answer == {"predictions": [{"twice": 2, "name": "1"}, {"twice": 4, "name": "2"}]}


def test_a_declared_signature(digits_folder: Path, digits: Any) -> None:
    signature = {
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1]}],
    }
    with ModelServer(digits_folder, "sklearn", "--config", f"signature={json.dumps(signature)}") as server:
        _, model = server.get("/v2/models/m")
        assert model["inputs"] == signature["inputs"]
        assert model["outputs"] == signature["outputs"]
        _, answer = server.infer({"inputs": [tensor("image", "FP32", [1, 64], digits.data[7].tolist())]})
        assert answer["outputs"][0]["data"] == [7]


def test_metrics(digits_folder: Path, digits: Any) -> None:
    with ModelServer(digits_folder, "sklearn", "--version", "abc") as server:
        for _ in range(3):
            server.infer({"inputs": [tensor("x", "FP64", [2, 64], digits.data[:2].tolist())]})
        server.infer({"inputs": []})
        server.infer({"instances": digits.data[:1].tolist()}, "/v1/models/m:predict")
        status, body, headers = server.request("GET", "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        text = body.decode()
    labels = 'model="m",revision="abc"'
    assert f'kaptain_requests_total{{{labels},protocol="v2",code="200"}} 3\n' in text
    assert f'kaptain_requests_total{{{labels},protocol="v2",code="400"}} 1\n' in text
    assert f'kaptain_requests_total{{{labels},protocol="v1",code="200"}} 1\n' in text
    assert f"kaptain_request_seconds_count{{{labels}}} 5\n" in text
    assert f'kaptain_request_seconds_bucket{{{labels},le="+Inf"}} 5\n' in text
    assert f"kaptain_requests_in_flight{{{labels}}} 0\n" in text
    assert f"kaptain_rows_total{{{labels}}} 7\n" in text

"""Clients of other projects pass unmodified: Triton's over HTTP and gRPC, KServe's, and schemathesis."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tritonclient.utils import InferenceServerException

from tests.peers import require_peer
from tests.servers import ModelServer


@pytest.fixture
def http_client(digits_server: ModelServer) -> Any:
    with triton_http.InferenceServerClient(f"127.0.0.1:{digits_server.port}") as client:
        yield client


@pytest.fixture
def grpc_client(digits_server: ModelServer) -> Any:
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{digits_server.grpc_port}") as client:
        yield client


@pytest.fixture
def row(digits: Any) -> Any:
    return digits.data[7:8].astype(np.float32)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_triton_http(http_client: Any, row: Any, binary_in: bool, binary_out: bool, compression: str | None) -> None:
    tensor = triton_http.InferInput("predict", [1, 64], "FP32")
    tensor.set_data_from_numpy(row, binary_data=binary_in)
    wanted = [triton_http.InferRequestedOutput(n, binary_data=binary_out) for n in ("predict", "decision_function")]
    answer = http_client.infer(
        "dev-mnist",
        [tensor],
        outputs=wanted,
        request_id="mine",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert answer.as_numpy("predict").tolist() == [7]
    assert answer.as_numpy("decision_function").shape == (1, 10)
    assert answer.get_response()["id"] == "mine"
    assert http_client.infer("dev-mnist", [tensor], model_version="1").as_numpy("predict").tolist() == [7]


def test_triton_http_metadata_and_errors(http_client: Any, row: Any) -> None:
    assert http_client.is_server_live()
    assert http_client.is_server_ready()
    assert http_client.is_model_ready("dev-mnist")
    assert not http_client.is_model_ready("other")
    assert http_client.get_server_metadata()["name"] == "kaptain-magics"
    assert http_client.get_model_metadata("dev-mnist")["inputs"][0]["shape"] == [-1, 64]
    tensor = triton_http.InferInput("predict", [1, 64], "FP32")
    tensor.set_data_from_numpy(row)
    with pytest.raises(InferenceServerException, match="this server has no model 'other'"):
        http_client.infer("other", [tensor])


def test_triton_http_in_parallel(digits_server: ModelServer, digits: Any) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{digits_server.port}", concurrency=8) as client:
        pending = []
        for place in range(200):
            tensor = triton_http.InferInput("predict", [1, 64], "FP64")
            tensor.set_data_from_numpy(digits.data[place : place + 1])
            pending.append(client.async_infer("dev-mnist", [tensor]))
        found = [int(answer.get_result().as_numpy("predict")[0]) for answer in pending]
    right = sum(a == b for a, b in zip(found, digits.target, strict=False))
    assert right > 195


DATATYPES = {"BOOL": np.bool_, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_}
DATATYPES |= {
    f"{kind}INT{bits}": np.dtype(f"{kind.lower()}int{bits}") for kind in ("", "U") for bits in (8, 16, 32, 64)
}


@pytest.mark.parametrize("datatype", DATATYPES)
def test_triton_echo(echo: ModelServer, datatype: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(DATATYPES[datatype])
    if datatype == "BYTES":
        array = np.array([[b"a", b""], ["\u00fc".encode(), b"b"]], dtype=object)
    for module, place in ((triton_http, echo.port), (triton_grpc, echo.grpc_port)):
        with module.InferenceServerClient(f"127.0.0.1:{place}") as client:
            tensor = module.InferInput("x", [2, 2], datatype)
            tensor.set_data_from_numpy(array)
            np.testing.assert_array_equal(client.infer("m", [tensor]).as_numpy("x"), array)


def test_triton_grpc(grpc_client: Any, row: Any) -> None:
    assert grpc_client.is_server_live()
    assert grpc_client.is_server_ready()
    assert grpc_client.is_model_ready("dev-mnist", "1")
    assert grpc_client.get_server_metadata().name == "kaptain-magics"
    model = grpc_client.get_model_metadata("dev-mnist")
    assert (model.platform, list(model.inputs[0].shape)) == ("sklearn_joblib", [-1, 64])
    tensor = triton_grpc.InferInput("predict", [1, 64], "FP32")
    tensor.set_data_from_numpy(row)
    answer = grpc_client.infer("dev-mnist", [tensor], request_id="mine")
    assert answer.as_numpy("predict").tolist() == [7]
    assert answer.get_response().id == "mine"
    wanted = [triton_grpc.InferRequestedOutput("decision_function")]
    assert grpc_client.infer("dev-mnist", [tensor], outputs=wanted).as_numpy("decision_function").shape == (1, 10)


@pytest.mark.parametrize(
    ("model", "version", "shape", "datatype", "code"),
    [
        ("other", "", [1, 64], "FP32", "NOT_FOUND"),
        ("dev-mnist", "9", [1, 64], "FP32", "NOT_FOUND"),
        ("dev-mnist", "", [64, 1], "FP32", "INVALID_ARGUMENT"),
        ("dev-mnist", "", [2, 64], "FP32", "INVALID_ARGUMENT"),
        ("dev-mnist", "", [-1, 64], "FP32", "INVALID_ARGUMENT"),
        ("dev-mnist", "", [1, 64], "FP99", "INVALID_ARGUMENT"),
        ("dev-mnist", "", [1, 64], "FP64", "INVALID_ARGUMENT"),
    ],
)
def test_triton_grpc_errors(
    grpc_client: Any, row: Any, model: str, version: str, shape: list[int], datatype: str, code: str
) -> None:
    tensor = triton_grpc.InferInput("predict", [1, 64], "FP32")
    tensor.set_data_from_numpy(row)
    tensor._input.shape[:] = shape
    tensor._input.datatype = datatype
    with pytest.raises(InferenceServerException) as caught:
        grpc_client.infer(model, [tensor], model_version=version)
    assert caught.value.status() == f"StatusCode.{code}"


def test_grpc_with_typed_contents(echo: ModelServer) -> None:
    """The contents that the specification has beside the raw ones; Triton's client only sends raw ones."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    samples = {
        "BOOL": ("bool_contents", [True, False]),
        "INT8": ("int_contents", [-1, 1]),
        "INT64": ("int64_contents", [-(2**60), 1]),
        "UINT16": ("uint_contents", [0, 65535]),
        "UINT64": ("uint64_contents", [2**64 - 1, 1]),
        "FP32": ("fp32_contents", [0.5, -1.0]),
        "FP64": ("fp64_contents", [0.1, 1e300]),
        "BYTES": ("bytes_contents", [b"a", b""]),
    }
    with grpc.insecure_channel(f"127.0.0.1:{echo.grpc_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelInferRequest(model_name="m", id="1")
        for name, (field, values) in samples.items():
            tensor = request.inputs.add(name=name, datatype=name, shape=[2])
            getattr(tensor.contents, field).extend(values)
        answer = stub.ModelInfer(request, timeout=60)
        assert not answer.raw_output_contents
        for output in answer.outputs:
            field, values = samples[output.name]
            assert list(getattr(output.contents, field)) == values
        request.inputs[1].contents.int_contents[0] = 1000
        with pytest.raises(grpc.RpcError, match="does not fit into INT8"):
            stub.ModelInfer(request, timeout=60)


KSERVE = """
import asyncio, json, sys
from kserve import InferenceRESTClient, InferRequest, InferInput, RESTConfig
import numpy as np

async def main(base, row):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(base)
    assert await client.is_server_ready(base)
    assert await client.is_model_ready(base, "dev-mnist")
    tensor = InferInput("predict", [1, 64], "FP32")
    found = []
    for binary in (False, True):
        tensor.set_data_from_numpy(np.array([row], dtype=np.float32), binary_data=binary)
        request = InferRequest("dev-mnist", [tensor])
        answer = await client.infer(base, request, model_name="dev-mnist")
        found.append(answer.outputs[0].as_numpy().tolist())
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await v1.infer(base, {"instances": [row]}, model_name="dev-mnist")
    found.append(answer["predictions"])
    await client.close()
    await v1.close()
    print(json.dumps(found))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


def test_kserves_client(digits_server: ModelServer, digits: Any) -> None:
    python: Path = require_peer("kserve")
    command = [str(python), "-c", KSERVE, f"http://127.0.0.1:{digits_server.port}", json.dumps(digits.data[7].tolist())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == [[7], [7], [7]]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_our_description_of_the_api(echo: ModelServer, mode: schemathesis.GenerationMode) -> None:
    """What the description allows is answered as it says, and so is what it forbids."""
    api = schemathesis.openapi.from_url(f"http://127.0.0.1:{echo.port}/openapi.json")
    operations = [operation.ok() for operation in api.get_all_operations()]
    assert len(operations) == 12
    for operation in operations:

        @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            # no schema can say that the data has the shape that stands beside it
            case.call_and_validate(timeout=60, excluded_checks=[positive_data_acceptance])

        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parts
            check()

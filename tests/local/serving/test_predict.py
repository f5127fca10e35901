"""Asking an endpoint from Python: any kind of rows goes in, an array comes out."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from kaptain_magics.errors import InferenceError, ServingError
from kaptain_magics.serving.client.predict import infer, predict, predict_async, predict_batch
from tests.servers import ADDER, ModelServer, predictor


def url(server: ModelServer, protocol: str = "v2") -> str:
    return server.url if protocol == "v2" else f"http://127.0.0.1:{server.port}/v1/models/{server.name}:predict"


@pytest.fixture(scope="module")
def frame_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("frame") / "model"
    folder.mkdir()
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [0, 1, 0, 1]})
    joblib.dump(LogisticRegression().fit(frame, ["no", "yes", "no", "yes"]), folder / "model.joblib")
    with ModelServer(folder, "sklearn") as server:
        yield server


@pytest.mark.parametrize("protocol", ["v2", "v1"])
def test_more_rows_than_one_request_may_have(adder_folder: Path, protocol: str) -> None:
    """They go in several requests: 100,050 rows of 64 are 51 MB raw."""
    rows = np.arange(100_050 * 64.0).reshape(-1, 64) % 17
    with ModelServer(adder_folder, "python") as server:
        assert (predict(url(server, protocol), {}, rows, timeout=120) == rows.sum(axis=1)).all()


def test_arrays_lists_and_rows(digits_server: ModelServer, digits: Any) -> None:
    place = url(digits_server)
    assert predict(place, {}, digits.data[:3]).tolist() == [0, 1, 2]
    assert predict(place, {}, digits.data[:3].tolist()).tolist() == [0, 1, 2]
    assert predict(place, {}, digits.data[7]).tolist() == [7]
    assert predict(place, {}, digits.data[7].tolist()).tolist() == [7]
    assert predict(place, {}, {"whatever": digits.data[:2]}).tolist() == [0, 1]
    assert predict(place, {}, pd.DataFrame(digits.data[:2])).tolist() == [0, 1]
    assert predict(place, {}, digits.data[:500]).tolist() == predict(place, {}, digits.data[:500].tolist()).tolist()
    assert predict(url(digits_server, "v1"), {}, digits.data[:3]).tolist() == [0, 1, 2]
    assert predict(url(digits_server, "v1"), {}, digits.data[7]).tolist() == [7]


def test_tables(frame_server: ModelServer) -> None:
    place = url(frame_server)
    frame = pd.DataFrame({"b": [0, 1], "a": [1.0, 4.0]})
    expected = predict(place, {}, [[1.0, 0], [4.0, 1]])
    assert expected.tolist() == ["no", "yes"]
    assert expected.dtype.kind == "U"
    for data in (frame, {"a": [1.0, 4.0], "b": [0, 1]}, np.array([[1.0, 0], [4.0, 1]])):
        assert predict(place, {}, data).tolist() == ["no", "yes"]
    assert predict(place, {}, [1.0, 0]).tolist() == ["no"]
    assert predict(url(frame_server, "v1"), {}, frame).tolist() == ["no", "yes"]
    probabilities = predict(place, {}, frame, proba=True)
    assert probabilities.shape == (2, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


def test_outputs_by_name(digits_server: ModelServer, digits: Any) -> None:
    found = infer(url(digits_server), {}, {"predict": digits.data[:2]}, ["decision_function", "predict"])
    assert [(name, array.shape) for name, array in found.items()] == [("decision_function", (2, 10)), ("predict", (2,))]


def test_async_and_batches(digits_server: ModelServer, digits: Any) -> None:
    place = url(digits_server)
    alone = predict(place, {}, digits.data[:10]).tolist()

    async def many() -> list[Any]:
        return await asyncio.gather(*(predict_async(place, {}, digits.data[n]) for n in range(10)))

    assert [int(a[0]) for a in asyncio.run(many())] == alone
    together = predict_batch(place, {}, digits.data, rows=100, parallel=3)
    np.testing.assert_array_equal(together, predict(place, {}, digits.data))
    frame = pd.DataFrame(digits.data[:250])
    assert predict_batch(place, {}, frame, rows=100).shape == (250,)
    with pytest.raises(InferenceError, match="no rows"):
        predict_batch(place, {}, [])


def test_large_requests_are_raw_and_small_ones_json(echo: ModelServer) -> None:
    for count in (3, 5_000):
        array = np.random.default_rng(0).normal(size=(count, 2))
        np.testing.assert_array_equal(infer(echo.url, {}, {"x": array})["x"], array)
    texts = np.array(["\u00fc", ""] * 400)
    assert infer(echo.url, {}, {"x": texts})["x"].tolist() == texts.tolist()


def test_errors_are_the_endpoints(digits_server: ModelServer, digits: Any) -> None:
    place = url(digits_server)
    with pytest.raises(InferenceError, match=r"has shape \[1, 63\], not \[-1, 64\]"):
        predict(place, {}, digits.data[:1, :63])
    with pytest.raises(InferenceError, match="no probabilities"):
        predict(place, {}, digits.data[:1], proba=True)
    with pytest.raises(InferenceError, match="V1"):
        predict(url(digits_server, "v1"), {}, digits.data[:1], proba=True)
    with pytest.raises(InferenceError, match=r"status 404"):
        predict(place.replace("dev-mnist", "other"), {}, digits.data[:1])
    with pytest.raises(InferenceError, match="no datatype"):
        predict(place, {}, digits.data[:1] * 1j)


def test_an_endpoint_that_is_not_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServingError, match=r"does not answer: .*refused"):
        predict(f"http://127.0.0.1:{port}/v2/models/m/infer", {}, [[1]])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "does not answer"),
        (b"nonsense\r\n\r\n", "does not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "did not answer in JSON"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", "status 502: <html>"),
    ],
)
def test_answers_that_are_none(answer: bytes, error: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ServingError, match=error):
            predict(f"http://127.0.0.1:{listener.getsockname()[1]}/v2/models/m/infer", {}, [[1]])
        thread.join(30)


def test_a_slow_endpoint(tmp_path: Path) -> None:
    source = "import time\ndef predict(inputs):\n    time.sleep(3)\n    return inputs\n"
    with ModelServer(predictor(tmp_path / "slow", source), "python") as server:
        started = time.monotonic()
        with pytest.raises(ServingError, match="does not answer in time"):
            predict(server.url, {}, [[1]], timeout=0.5)
        assert time.monotonic() - started < 2.5


def test_a_connection_that_was_closed_meanwhile_and_another_model(tmp_path: Path, adder_folder: Path) -> None:
    """The port stays, the server behind it changes: the next request finds out by itself."""
    with ModelServer(adder_folder, "python") as server:
        place, port = server.url, server.port
        assert predict(place, {}, [[1, 2]]).tolist() == [3]
    signature = {"inputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]}
    config = f"signature={json.dumps(signature)}"
    with ModelServer(predictor(tmp_path / "b", ADDER), "python", "--port", str(port), "--config", config):
        assert predict(place, {}, [[1, 3]]).tolist() == [4]


def test_threads_and_forks_share_no_connection(adder_folder: Path) -> None:
    with ModelServer(adder_folder, "python") as server:

        def ask(number: int) -> bool:
            return bool(predict(server.url, {}, [[number, 1]])[0] == number + 1)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(200)))
        pid = os.fork()
        if pid == 0:
            os._exit(0 if all(ask(n) for n in range(50)) else 1)
        assert all(ask(n) for n in range(50))
        assert os.waitpid(pid, 0)[1] == 0

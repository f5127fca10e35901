"""No value changes its place on the way to a model: what has another shape is refused with both shapes and a remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kaptain_magics.errors import InferenceError
from kaptain_magics.serving.client.inputs import to_tensors
from kaptain_magics.serving.client.predict import predict
from kaptain_magics.serving.loaders.torch_handler import ImageClassifier
from kaptain_magics.serving.signature import Signature, TensorSpec
from tests.servers import ModelServer, predictor, tensor

# Distinguishes samples by the positions of their values, as a network with a flattening layer does.
PLACES = """
import numpy as np
def predict(inputs):
    rows = inputs["image"].reshape(len(inputs["image"]), -1)
    return rows @ np.arange(rows.shape[1], dtype=np.float64)
"""
CHANNELS_FIRST = (3, 4, 5)
IMAGES = Signature((TensorSpec("image", "FP32", (-1, *CHANNELS_FIRST)),))
FLAT = Signature((TensorSpec("rows", "FP64", (-1, 64)),))
FRAMES = Signature((TensorSpec("frames", "FP32", (-1, 3, -1, -1)),))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    signature = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, *CHANNELS_FIRST]}]}
    folder = predictor(tmp_path_factory.mktemp("places") / "model", PLACES)
    with ModelServer(folder, "python", "--config", f"signature={json.dumps(signature)}") as running:
        yield running


@pytest.fixture(params=["v2", "v1"])
def url(request: pytest.FixtureRequest, server: ModelServer) -> str:
    return server.url if request.param == "v2" else f"http://127.0.0.1:{server.port}/v1/models/m:predict"


def images(count: int) -> Any:
    return np.arange(count * 60, dtype=np.float32).reshape(count, *CHANNELS_FIRST)


def weighed(images: Any) -> list[float]:
    return [float(image.ravel().astype(np.float64) @ np.arange(60)) for image in images]


def test_samples_one_sample_and_flat_rows(url: str) -> None:
    two = images(2)
    for data in (two, two.reshape(2, 60), two.reshape(2, 60).tolist(), two.tolist()):
        assert predict(url, {}, data).tolist() == weighed(two)
    for one in (two[1], two[1].ravel(), two[1].ravel().tolist(), two[1:], {"image": two[1]}):
        assert predict(url, {}, one).tolist() == weighed(two[1:])


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((2, 4, 5, 3), r"np.transpose\(x, \(0, 3, 1, 2\)\)"),
        ((1, 4, 5, 3), r"np.transpose\(x, \(0, 3, 1, 2\)\)"),
        ((4, 5, 3), r"np.transpose\(x, \(2, 0, 1\)\)"),
        ((3, 20), r"samples of shape \[3, 4, 5\], or flat rows of 60 values"),
        ((60, 1), "flat rows of 60 values"),
        ((2, 3, 20), "flat rows of 60 values"),
        ((120,), "flat rows of 60 values"),
        ((2, 3, 5, 4), "flat rows of 60 values"),
    ],
)
def test_other_shapes_are_refused_with_both(url: str, shape: tuple[int, ...], remedy: str) -> None:
    data = np.zeros(shape, np.float32)
    message = rf"input 'image' has shape \[{', '.join(map(str, shape))}\], not \[-1, 3, 4, 5\]\n.*{remedy}"
    for given in (data, data.tolist(), {"image": data}):
        with pytest.raises(InferenceError, match=message):
            predict(url, {}, given)


def test_the_remedy_is_one(url: str) -> None:
    last = np.transpose(images(2), (0, 2, 3, 1))
    assert predict(url, {}, np.transpose(last, (0, 3, 1, 2))).tolist() == weighed(images(2))


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (np.zeros((8, 8)), r"one sample.*x.reshape\(1, -1\)"),  # an image, or eight rows of eight features
        (np.zeros((16, 4)), r"one sample.*x.reshape\(1, -1\)"),
        (np.zeros((3, 8, 8)), r"every sample.*x.reshape\(len\(x\), -1\)"),
        (Image.fromarray(np.zeros((8, 8), np.uint8)), r"x.reshape\(1, -1\)"),
        (np.zeros((2, 32)), r"x.reshape\(1, -1\)"),
        (np.zeros((3, 32)), "not"),
        (np.zeros(63), "not"),
    ],
)
def test_a_model_of_flat_rows_joins_no_rows(data: Any, remedy: str) -> None:
    with pytest.raises(
        InferenceError, match=rf"(?s)input 'rows' has shape .*, not \[-1, 64\].*{remedy}|not \[-1, 64\]$"
    ):
        to_tensors(data, FLAT)
    assert to_tensors(np.zeros(64), FLAT)["rows"].shape == (1, 64)


def test_channels_are_found_where_the_other_sizes_are_free() -> None:
    assert to_tensors(np.zeros((3, 7, 9)), FRAMES)["frames"].shape == (1, 3, 7, 9)
    for shape, order in (((2, 7, 9, 3), "0, 3, 1, 2"), ((7, 9, 3), "2, 0, 1")):
        with pytest.raises(InferenceError) as refused:
            to_tensors(np.zeros(shape), FRAMES)
        assert f"np.transpose(x, ({order}))" in refused.value.hint
    last = Signature((TensorSpec("frames", "FP32", (-1, 7, 9, 3)),))
    with pytest.raises(InferenceError) as refused:
        to_tensors(np.zeros((2, 3, 7, 9)), last)
    assert "np.transpose(x, (0, 2, 3, 1))" in refused.value.hint


def test_columns_of_a_table_keep_their_shape() -> None:
    pairs = Signature((TensorSpec("a", "FP64", (-1, 1)), TensorSpec("b", "FP64", (-1, 2))))
    made = to_tensors({"a": [1, 2], "b": [[1, 2], [3, 4]]}, pairs)
    assert {name: array.shape for name, array in made.items()} == {"a": (2, 1), "b": (2, 2)}
    with pytest.raises(InferenceError, match=r"input 'b' has shape \[4, 1\], not \[-1, 2\]"):
        to_tensors({"a": [1, 2], "b": [[1], [2], [3], [4]]}, pairs)
    cells = pd.DataFrame({"image": list(images(2))})
    assert to_tensors(cells, IMAGES)["image"].tolist() == images(2).tolist()
    with pytest.raises(InferenceError, match=r"\[2, 4, 5, 3\], not \[-1, 3, 4, 5\]"):
        to_tensors(pd.DataFrame({"image": list(np.zeros((2, 4, 5, 3)))}), IMAGES)
    with pytest.raises(InferenceError, match="column 'image' holds arrays of several shapes"):
        to_tensors(pd.DataFrame({"image": [np.zeros((3, 4, 5)), np.zeros((4, 5, 3))]}), IMAGES)


def test_the_server_itself_rearranges_nothing(server: ModelServer) -> None:
    zeros = np.zeros((1, 4, 5, 3)).tolist()
    status, body = server.infer({"inputs": [tensor("image", "FP32", [1, 4, 5, 3], zeros)]})
    assert status == 400
    assert "shape [1, 4, 5, 3], not [-1, 3, 4, 5]" in body["error"]
    assert "np.transpose(x, (0, 3, 1, 2))" in body["error"]
    status, body = server.infer({"inputs": [tensor("image", "FP32", [1, 3, 4, 5], zeros)]})
    assert status == 400
    assert "image" in body["error"]
    status, body = server.infer({"inputs": [tensor("image", "FP32", [1, 3, 4, 5], np.zeros((3, 20)).tolist())]})
    assert status == 400
    assert "shape [1, 3, 4, 5] needs 1 lists, not 3" in body["error"]
    status, body = server.infer({"inputs": [tensor("image", "FP32", [3, 20], np.zeros(60).tolist())]})
    assert status == 400
    assert "shape [3, 20], not [-1, 3, 4, 5]" in body["error"]
    status, body = server.infer({"instances": zeros}, "/v1/models/m:predict")
    assert status == 400
    assert "shape [1, 4, 5, 3], not [-1, 3, 4, 5]" in body["error"]
    status, body = server.infer({"instances": [{"image": zeros[0]}]}, "/v1/models/m:predict")
    assert status == 400
    assert "shape [1, 4, 5, 3], not [-1, 3, 4, 5]" in body["error"]


class Flattening:
    """What the image classifier of PyTorch asks, without PyTorch: a module that would take axes in any order."""

    platform, batchable, signature = "pytorch", True, IMAGES

    def predict(self, inputs: Any, outputs: Any, parameters: Any) -> Any:
        (images,) = inputs.values()
        return {"scores": images.reshape(len(images), -1)[:, :2]}


def test_the_image_classifier_rearranges_nothing() -> None:
    classifier = ImageClassifier(Flattening(), ())  # type: ignore[arg-type]
    assert classifier.predict({"data": images(2)}, (), {})["predict"].tolist() == [1, 1]
    with pytest.raises(
        InferenceError, match=r"\[2, 4, 5, 3\], not \[-1, 3, 4, 5\] \(.*np.transpose\(x, \(0, 3, 1, 2\)\)"
    ):
        classifier.predict({"data": np.zeros((2, 4, 5, 3))}, (), {})

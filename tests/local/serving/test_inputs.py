"""Usual Python data as a model's tensors: names count where there are any, and what cannot be converted is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from kaptain_magics.errors import InferenceError
from kaptain_magics.serving.client.inputs import to_tensors
from kaptain_magics.serving.client.predict import predict, predict_async, predict_batch
from kaptain_magics.serving.signature import Signature, TensorSpec
from tests.servers import ModelServer

Ask = Callable[[ModelServer, Any], Any]


def _now(server: ModelServer, data: Any) -> Any:
    return predict(server.url, {}, data)


def _later(server: ModelServer, data: Any) -> Any:
    return asyncio.run(predict_async(server.url, {}, data))


def _in_pieces(server: ModelServer, data: Any) -> Any:
    return predict_batch(server.url, {}, data, rows=1)


def _v1(server: ModelServer, data: Any) -> Any:
    return predict(f"http://127.0.0.1:{server.port}/v1/models/{server.name}:predict", {}, data)


@pytest.fixture(params=[_now, _later, _in_pieces, _v1])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def number_server(numbers: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("numbers") / "model"
    folder.mkdir()
    joblib.dump(LinearRegression().fit(numbers, numbers @ [1, 10, 100]), folder / "model.joblib")
    with ModelServer(folder, "sklearn") as server:
        yield server


@pytest.fixture(scope="module")
def mixed() -> pd.DataFrame:
    return pd.DataFrame(
        {"age": [1, 2, 3, 4], "city": ["x", "y", "x", "y"], "n": [3.5, 1, 2, 0], "flag": [True, False, False, True]}
    )


@pytest.fixture(scope="module")
def mixed_model(mixed: pd.DataFrame) -> Any:
    city = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer((city, ["city"]), (SimpleImputer(), ["n"]), remainder="passthrough")
    return make_pipeline(columns, LinearRegression()).fit(mixed, [1.0, 20, 300, 4000])


@pytest.fixture(scope="module")
def mixed_server(mixed_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("mixed") / "model"
    folder.mkdir()
    joblib.dump(mixed_model, folder / "model.joblib")
    with ModelServer(folder, "sklearn") as server:
        yield server


def test_a_row_with_labels_is_sent_by_name(number_server: ModelServer, numbers: pd.DataFrame, ask: Ask) -> None:
    row = numbers.iloc[0]
    expected = [pytest.approx(row @ [1, 10, 100])]
    for data in (
        row,
        numbers[["c", "b", "a"]].iloc[0],
        numbers[["c", "b", "a"]][:1],
        dict(row[::-1]),
        [row[::-1]],
        pd.Series(row.to_numpy()),
        row.tolist(),
    ):
        assert ask(number_server, data).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (["a", "b", "z"], "'z' is unknown: the model takes a, b, c"),
        (["a", "b"], "'c' is missing: the model takes a, b, c"),
        (["a", "b", "b"], "duplicate name 'b'"),
    ],
)
def test_a_row_with_other_labels(number_server: ModelServer, labels: list[str], error: str) -> None:
    with pytest.raises(InferenceError, match=error):
        predict(number_server.url, {}, pd.Series(range(len(labels)), index=labels))


def test_a_row_for_a_model_without_names(digits_server: ModelServer, digits: Any, ask: Ask) -> None:
    row = pd.Series(digits.data[7], index=[f"pixel{n}" for n in range(64)])
    assert ask(digits_server, row).tolist() == [7]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([[1, 2, 3], [3]], r"values in row 0: 3, in row 1: 1\ngive every row"),
        ([["x", 2, 3], 3], "in row 0: 3, in row 1: no list"),
        ([[[1], [2, 3]], [[1], [2]]], "nested unevenly"),
        ({"a": [[1], [2, 3]]}, "in row 0: 1, in row 1: 2"),
        ([[1, 2]], r"rows of 2 values, not 3\nthe model takes rows of the columns a, b, c"),
        ([[[1, 2, 3]]], r"shape \[1, 1, 3\], not 3"),
        (5, r"5 is not a table\nthe model takes rows of the columns a, b, c"),
        ("hello", r"'hello' is not a table\nthe model takes rows of the columns a, b, c"),
        (None, "None is not a table"),
        ([], r"no rows to predict\nthe model takes rows of the columns a, b, c"),
        ({}, "no rows"),
        ([{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}], "rows 0 and 1 do not have the same names: 'c'"),
        ([{"a": 1, "b": 2, "c": 3}, [1, 2, 3]], "row 1 has no names"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "duplicate name 'a'"),
    ],
)
def test_data_that_is_no_table(number_server: ModelServer, ask: Ask, data: Any, error: str) -> None:
    with pytest.raises(InferenceError, match=error):
        ask(number_server, data)


def test_a_scalar_for_a_matrix_or_a_text(digits_server: ModelServer) -> None:
    for data in (5, "hello"):
        with pytest.raises(InferenceError, match="is not a table\nthe model takes rows of 64 features"):
            predict(digits_server.url, {}, data)
    texts = Signature((TensorSpec("predict", "BYTES", (-1,)),))
    assert to_tensors("hello", texts)["predict"].tolist() == ["hello"]
    with pytest.raises(InferenceError, match="takes a list of texts"):
        to_tensors(5, texts)
    single = Signature((TensorSpec("predict", "FP64", (-1, 1)),))
    assert to_tensors(5, single)["predict"].tolist() == [[5]]
    assert to_tensors([1, 2], single)["predict"].tolist() == [[1], [2]]
    anything = Signature((TensorSpec("predict", "FP64", (-1, -1, -1)),))
    with pytest.raises(InferenceError, match="takes numbers of shape"):
        to_tensors(5, anything)
    with pytest.raises(InferenceError, match=r"has shape \[2\], not \[-1, -1, -1\]"):
        to_tensors([1, 2], anything)
    images = Signature((TensorSpec("x", "FP32", (-1, 8, 8)), TensorSpec("y", "FP32", (-1, 2))))
    with pytest.raises(InferenceError, match="no names\nsend a dict: the model takes the inputs x, y"):
        to_tensors([[1, 2]], images)


def test_rows_of_numbers_texts_and_truth_values(
    mixed_server: ModelServer, mixed: pd.DataFrame, mixed_model: Any, ask: Ask
) -> None:
    answers = mixed_model.predict(mixed)
    expected = pytest.approx(answers)
    for data in (mixed, mixed.values, mixed.values.tolist(), mixed.to_dict("records"), mixed.to_dict("list")):
        assert ask(mixed_server, data) == expected
    assert ask(mixed_server, mixed.astype({"n": "Float64", "city": "string", "flag": "boolean"})) == expected
    for row in (mixed.iloc[0], mixed.iloc[0].tolist(), dict(mixed.iloc[0]), [mixed.iloc[0]]):
        assert ask(mixed_server, row) == pytest.approx(answers[:1])


def test_missing_values(mixed_server: ModelServer, mixed: pd.DataFrame, mixed_model: Any, ask: Ask) -> None:
    for missing in (None, np.nan, pd.NA):
        expected = pytest.approx(
            mixed_model.predict(mixed.assign(city=np.nan, n=[1, np.nan, 2, 3]).astype({"city": object}))
        )
        frame = mixed.assign(city=missing, n=[1, missing, 2, 3])
        for data in (frame, frame.to_dict("records"), frame.values, frame.values.tolist()):
            assert ask(mixed_server, data) == expected
    for missing in (None, np.nan, pd.NA):  # among texts, too
        expected = pytest.approx(
            mixed_model.predict(mixed.assign(city=["x", "y", np.nan, "x"]).astype({"city": object}))
        )
        assert ask(mixed_server, mixed.assign(city=["x", "y", missing, "x"])) == expected

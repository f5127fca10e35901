"""Frames in, frames out: a model that was fitted on a frame takes that frame at its endpoint and answers the same."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from kaptain_magics.errors import InferenceError
from kaptain_magics.serving.client.predict import describe, predict
from tests.fitted import train
from tests.servers import ModelServer

PIPELINE = """
import kaptain
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

texts = ["sex", "deck", "embarked"]
numbers = ["passenger class", "age", "fare", "alone", "siblings"]
model = make_pipeline(
    make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), texts),
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
    ),
    LogisticRegression(),
)
model.fit(frame, survived)
kaptain.save_model(model)
answers(
    predict=model.predict(rows),
    predict_proba=model.predict_proba(rows),
    decision_function=model.decision_function(rows),
)
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModelServer, dict[str, Any]]]:
    folder, told, _ = train(tmp_path_factory.mktemp("pipeline"), PIPELINE)
    with ModelServer(folder, "sklearn", "--grpc-port", "0") as server:
        yield server, told


def v1(server: ModelServer) -> str:
    return f"http://127.0.0.1:{server.port}/v1/models/{server.name}:predict"


def test_the_frame_that_the_model_was_fitted_on(pipeline: tuple[ModelServer, dict[str, Any]]) -> None:
    server, told = pipeline
    rows = told["rows"]
    some = rows[:7]  # as JSON; all of them go as raw tensors
    for data, place in ((rows, slice(None)), (some, slice(7)), (some.sample(frac=1, axis=1, random_state=1), slice(7))):
        assert predict(server.url, {}, data).tolist() == told["predict"][place].tolist()
        assert predict(v1(server), {}, data).tolist() == told["predict"][place].tolist()
        np.testing.assert_allclose(predict(server.url, {}, data, proba=True), told["predict_proba"][place], rtol=1e-12)
        decided = predict(server.url, {}, data, output="decision_function")
        np.testing.assert_allclose(decided, told["decision_function"][place], rtol=1e-12)
    assert predict(server.url, {}, some.to_dict("records")).tolist() == told["predict"][:7].tolist()
    assert predict(server.url, {}, rows.drop(columns=["name", "boarded"])).tolist() == told["predict"].tolist()
    assert predict(server.url, {}, rows.iloc[3]).tolist() == told["predict"][3:4].tolist()


def test_the_metadata_tells_what_it_was_fitted_on(pipeline: tuple[ModelServer, dict[str, Any]]) -> None:
    server, told = pipeline
    _, metadata = server.get(f"/v2/models/{server.name}")
    inputs = {spec["name"]: (spec["datatype"], spec["parameters"]) for spec in metadata["inputs"]}
    assert list(inputs) == list(told["rows"].columns)
    text = str(told["rows"]["name"].dtype)
    assert inputs["name"] == ("BYTES", {"dtype": text, "nullable": True, "optional": True})
    assert inputs["passenger class"] == ("INT64", {"dtype": "int64"})
    assert inputs["sex"] == ("BYTES", {"dtype": "category", "nullable": True})
    assert inputs["age"] == ("FP64", {"dtype": "float64", "nullable": True})
    assert inputs["siblings"] == ("INT64", {"dtype": "Int64", "nullable": True})
    assert inputs["alone"] == ("BOOL", {"dtype": "bool"})
    outputs = {spec["name"]: spec.get("parameters", {}) for spec in metadata["outputs"]}
    assert outputs["predict"] == {}
    assert outputs["predict_proba"] == {"on_request": True, "classes": ["no", "yes"]}
    assert describe(server.url, {}).outputs[1].classes == ("no", "yes")


def test_requests_by_hand(pipeline: tuple[ModelServer, dict[str, Any]]) -> None:
    """JSON as people write it: ``null`` for what is missing, texts for categories and times."""
    server, told = pipeline
    row = told["rows"].iloc[0]
    written: dict[str, Any] = json.loads(told["rows"][:1].to_json(orient="records", date_format="iso"))[0]
    written |= {"age": None, "embarked": None, "deck": None, "siblings": None}
    empty = row.to_frame().T.assign(age=np.nan, embarked=None, deck=None, siblings=pd.NA)
    path = f"/v1/models/{server.name}:predict"
    status, answer = server.infer({"instances": [written]}, path)
    assert status == 200, answer
    assert answer["predictions"] == predict(server.url, {}, empty).tolist()
    assert server.infer({"instances": [list(written.values())]}, path) == (200, answer)
    tensors = [
        {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}
        for name, value in written.items()
        if name not in ("embarked", "deck", "alone")
    ]
    tensors += [{"name": name, "shape": [1], "datatype": "BYTES", "data": [None]} for name in ("embarked", "deck")]
    tensors += [{"name": "alone", "shape": [1], "datatype": "BOOL", "data": [bool(row["alone"])]}]
    status, found = server.infer({"inputs": tensors})
    assert status == 200, found
    assert found["outputs"][0]["data"] == predict(server.url, {}, empty).tolist()


def test_what_does_not_fit_is_told_by_its_column(pipeline: tuple[ModelServer, dict[str, Any]]) -> None:
    server, told = pipeline
    rows = told["rows"]
    with pytest.raises(
        InferenceError, match=r"'passenger class' takes INT64, not BYTES: the model was fitted on int64"
    ):
        predict(server.url, {}, rows.assign(**{"passenger class": "first"}))
    with pytest.raises(InferenceError, match="input 'age' is missing"):
        predict(server.url, {}, rows.drop(columns="age"))
    with pytest.raises(InferenceError, match=r"'boarded'.*has no zone"):
        predict(server.url, {}, rows.assign(boarded=pd.Timestamp("1912-04-10")))


def test_histogram_gradient_boosting(tmp_path: Path) -> None:
    source = """
import kaptain
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV

used = frame.drop(columns=["name", "embarked", "boarded"])
rows = rows[used.columns]
boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=20)
search = GridSearchCV(boosting, {"max_depth": [2, 4]}, cv=2)
search.fit(used, survived)
kaptain.save_model(search.best_estimator_)
answers(predict=search.predict(rows), predict_proba=search.predict_proba(rows))
"""
    folder, told, output = train(tmp_path, source)
    assert "not seen" not in output
    with ModelServer(folder, "sklearn") as server:
        assert predict(server.url, {}, told["rows"]).tolist() == told["predict"].tolist()
        np.testing.assert_allclose(predict(server.url, {}, told["rows"], proba=True), told["predict_proba"])


def test_a_sparse_matrix(tmp_path: Path) -> None:
    source = """
import kaptain
from scipy import sparse
from sklearn.linear_model import LogisticRegression

data = sparse.random(240, 500, 0.02, "csr", random_state=1)
model = LogisticRegression().fit(data, survived)
kaptain.save_model(model)
rows = data[:200]
answers(predict=model.predict(rows), predict_proba=model.predict_proba(rows))
"""
    folder, told, _ = train(tmp_path, source)
    with ModelServer(folder, "sklearn") as server:
        assert predict(server.url, {}, told["rows"]).tolist() == told["predict"].tolist()
        np.testing.assert_allclose(predict(server.url, {}, told["rows"].tocoo(), proba=True), told["predict_proba"])
        many = sparse.vstack([told["rows"]] * 60)  # 48 MB as numbers: in three requests
        assert predict(server.url, {}, many, timeout=120).tolist() == told["predict"].tolist() * 60


@pytest.mark.parametrize("others", ["", "DummyClassifier().fit(frame[['fare']], survived),"])
def test_a_file_that_the_script_wrote(others: str, tmp_path: Path) -> None:
    """The contract's way: what the only model was fitted on goes with it; of several, none is taken."""
    source = f"""
import joblib
from kaptain.platform.model_export_util import ModelExportUtil
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier

used = frame[["sex", "deck", "age"]]
rows = rows[used.columns]
model = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=5).fit(used, survived)
kept = [{others}]
joblib.dump(model, "own.joblib")
ModelExportUtil().upload_model("own.joblib")
answers(predict=model.predict(rows))
"""
    folder, told, _ = train(tmp_path, source)
    assert (folder / "kaptain-inputs.json").exists() == (not others)
    if not others:
        with ModelServer(folder, "sklearn") as server:
            assert predict(server.url, {}, told["rows"]).tolist() == told["predict"].tolist()


def test_what_was_not_seen_is_guessed_and_said(tmp_path: Path) -> None:
    source = """
import pickle
import kaptain
from sklearn.linear_model import LogisticRegression

used = frame[["age", "fare"]].fillna(0)
rows = rows[used.columns].fillna(0)
model = pickle.loads(pickle.dumps(LogisticRegression().fit(used, survived)))
kaptain.save_model(model)
answers(predict=model.predict(rows))
"""
    folder, told, output = train(tmp_path / "guessed", source)
    assert "the data that this LogisticRegression was fitted on was not seen" in output
    assert not (folder / "kaptain-inputs.json").exists()
    with ModelServer(folder, "sklearn") as server:
        assert predict(server.url, {}, told["rows"]).tolist() == told["predict"].tolist()
    folder, _, output = train(
        tmp_path / "example", source.replace("save_model(model)", "save_model(model, example=rows)")
    )
    assert "not seen" not in output
    assert json.loads((folder / "kaptain-inputs.json").read_text())["source"] == "example"


def test_classes_of_the_script_are_as_they_were(tmp_path: Path) -> None:
    """``fit`` is looked at without a change that inspection, pickles or subclasses could see."""
    source = """
import inspect, pickle, copyreg
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression

class Mine(BaseEstimator):
    def fit(self, X, y=None, *, extra=1):
        self.extra_ = extra
        return self

class Derived(Mine):
    def fit(self, X, y=None, **more):
        return super().fit(X, y, **more)

assert str(inspect.signature(Mine.fit)) == "(self, X, y=None, *, extra=1)"
assert str(inspect.signature(Derived().fit)) == "(X, y=None, **more)"
assert inspect.isfunction(Mine.fit) and inspect.isfunction(LinearRegression.fit)
assert Derived().fit(frame, extra=5).extra_ == 5
assert pickle.loads(pickle.dumps(LinearRegression().fit)).__name__ == "fit"
reduced = vars(Mine)["fit"].__reduce__()
assert reduced[0](*reduced[1]) is Mine.fit
answers()
"""
    train(tmp_path, source)


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded"])
def test_bodies_of_tutorials(pipeline: tuple[ModelServer, dict[str, Any]], kind: str) -> None:
    """``curl -d`` sends the type of a form; V1's bodies come to V2's address."""
    server, told = pipeline
    body = json.dumps({"instances": json.loads(told["rows"][:2].to_json(orient="records", date_format="iso"))}).encode()
    for place in (v1(server), server.url):
        request = urllib.request.Request(place, body, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer) == {"predictions": told["predict"][:2].tolist()}
    status, answer = server.infer({"inputs": []}, f"/v1/models/{server.name}:predict")
    assert status == 400
    assert f"send it to /v2/models/{server.name}/infer" in answer["error"]

"""Frames as a model was fitted on, over the wire and back: dtypes, categories, times and missing values stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from kaptain_magics.errors import InferenceError
from kaptain_magics.runtime.fitted import INPUTS_FILE, FittedOn, Sighting
from kaptain_magics.serving.client.inputs import to_tensors
from kaptain_magics.serving.loaders.frame import Frame
from kaptain_magics.serving.protocol.tensors import nested_data
from kaptain_magics.serving.protocol.v1 import read_instances
from kaptain_magics.serving.protocol.v2 import read_request, write_tensors
from kaptain_magics.serving.signature import Array, Signature

Wire = Callable[[Mapping[str, Array]], dict[str, Array]]
NAN, NONE, NA = float("nan"), None, pd.NA
COLUMNS: dict[str, Any] = {
    "float": [1.5, NAN, 3.0],
    "float32": np.array([0.1, 0.2, NAN], dtype=np.float32),
    "int": [1, 2, 2**62],
    "uint8": np.array([0, 7, 255], dtype=np.uint8),
    "bool": [True, False, True],
    "text": ["a", "ü b", "c"],
    "text, some missing": ["a", NAN, "c"],
    "text with None": pd.Series(["a", None, "c"], dtype=object),
    "bool with None": pd.Series([True, None, False], dtype=object),
    "numbers as objects": pd.Series([1, 2, 3], dtype=object),
    "category": pd.Categorical(["x", None, "y"], categories=["y", "x", "z"]),
    "ordered": pd.Categorical(["lo", "hi", "lo"], categories=["lo", "hi"], ordered=True),
    "category of ints": pd.Categorical([3, 1, 3]),
    "category of floats": pd.Categorical([0.5, 1.5, None]),
    "category of bools": pd.Categorical([True, False, True]),
    "interval": pd.cut([1, 5, 9], [0, 4, 6, 10]),
    "day": pd.to_datetime(["2024-02-29", "1912-04-15 02:20:00.123456", None], format="ISO8601"),
    "zone": pd.to_datetime(["2024-03-31 00:30", None, "2024-10-27 02:30"])
    .tz_localize("UTC")
    .tz_convert("Europe/Berlin"),
    "duration": pd.to_timedelta(["1 days", None, "00:00:01.5"]),
    "Int64": pd.array([1, None, 3], dtype="Int64"),
    "UInt8": pd.array([1, 2, 3], dtype="UInt8"),
    "Float64": pd.array([1.25, None, 3], dtype="Float64"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "string": pd.array(["a", None, ""], dtype="string"),
    "period": pd.PeriodIndex(["2024-01", "2024-02", "2024-03"], freq="M"),
    "sparse": pd.arrays.SparseArray([0.0, 2.0, 0.0]),
}


def learned(frame: pd.DataFrame, folder: Path) -> Frame:
    Sighting(frame, "Model.fit").describe().write(folder)
    json.loads((folder / INPUTS_FILE).read_text())
    fitted = FittedOn.read(folder)
    assert fitted is not None
    return Frame(fitted)


def v2(tensors: Mapping[str, Array]) -> dict[str, Array]:
    return read_request(
        orjson.dumps({"inputs": write_tensors(tensors, lambda _: False)[0]}, None, orjson.OPT_SERIALIZE_NUMPY), None
    ).inputs


def binary(tensors: Mapping[str, Array]) -> dict[str, Array]:
    inputs, data = write_tensors(tensors, lambda _: True)
    head = orjson.dumps({"inputs": inputs}, None, orjson.OPT_SERIALIZE_NUMPY)
    return read_request(b"".join((head, *data)), str(len(head)).encode()).inputs


def v1(tensors: Mapping[str, Array]) -> dict[str, Array]:
    columns = {name: nested_data(array) for name, array in tensors.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return read_instances(orjson.dumps({"instances": rows}), ["unused"], lambda _: None)


def through(frame: Any, built: Frame, wire: Wire) -> pd.DataFrame:
    return built.build(wire(to_tensors(frame, Signature(built.specs()))))


@pytest.fixture(params=[v2, binary, v1])
def wire(request: pytest.FixtureRequest) -> Wire:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back(name: str, wire: Wire, tmp_path: Path) -> None:
    frame = pd.DataFrame({name: COLUMNS[name]}).set_axis([7, 8, 9])
    built = learned(frame, tmp_path)
    pd.testing.assert_frame_equal(through(frame, built, wire), frame.reset_index(drop=True))
    pd.testing.assert_frame_equal(through(frame[2:], built, wire), frame[2:].reset_index(drop=True))


def test_all_together_in_any_order(wire: Wire, tmp_path: Path) -> None:
    frame = pd.DataFrame(COLUMNS)
    built = learned(frame, tmp_path)
    pd.testing.assert_frame_equal(through(frame[frame.columns[::-1]], built, wire), frame)
    records = through(frame.to_dict("records"), built, wire)
    pd.testing.assert_frame_equal(records.drop(columns="int"), frame.drop(columns="int"))


def test_the_example_is_a_row(tmp_path: Path) -> None:
    frame = pd.DataFrame(COLUMNS)
    built = learned(frame, tmp_path)
    row = built.build(built.example())
    full = int(frame.isna().sum(axis=1).argmin())
    pd.testing.assert_frame_equal(row, frame[full : full + 1].reset_index(drop=True))


def test_labels_that_are_numbers(wire: Wire, tmp_path: Path) -> None:
    frame = pd.DataFrame([[1.0, "a"], [2.0, "b"]])
    pd.testing.assert_frame_equal(through(frame, learned(frame, tmp_path), wire), frame)


def test_missing_values_where_there_were_none(wire: Wire, tmp_path: Path) -> None:
    """They are what pandas makes of them."""
    fitted = pd.DataFrame({"int": [1, 2], "bool": [True, False], "text": ["a", "b"], "cat": pd.Categorical(["a", "b"])})
    frame = pd.DataFrame({"int": [1, None], "bool": [None, True], "text": [None, "b"], "cat": ["a", None]})
    came = through(frame, learned(fitted, tmp_path), wire)
    assert came["int"].dtype == "float64"
    assert came["bool"].tolist()[1] is True
    assert came["cat"].dtype == fitted["cat"].dtype
    assert came.isna().to_numpy().tolist() == frame.isna().to_numpy().tolist()


def test_new_categories_are_not_lost(wire: Wire, tmp_path: Path) -> None:
    """The model meets them, as it would in a frame of its own process."""
    built = learned(pd.DataFrame({"c": pd.Categorical(["x", "y"])}), tmp_path)
    came = through(pd.DataFrame({"c": ["new", "x"]}), built, wire)
    assert came["c"].tolist() == ["new", "x"]
    assert came["c"].cat.categories.tolist() == ["x", "y", "new"]


@pytest.mark.parametrize(
    ("fitted", "sent", "message"),
    [
        ([1.0, 2.0], ["a", "b"], "texts, the model was fitted on numbers"),
        ([True, False], [2, 1], "numbers, the model was fitted on truth values"),
        (pd.cut([1, 5], [0, 4, 6]), ["(0, 4]", "(7, 9]"], r"'\(7, 9\]' is not a category of it"),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), ["2024-01-01T00:00:00+02:00", None], "has a zone"),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("UTC"), ["2024-01-01", None], "has no zone"),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), ["yesterday", None], r"column 'c' \(datetime64"),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), [1.0, 2.0], "ISO 8601"),
    ],
)
def test_what_cannot_be_meant_is_refused(fitted: Any, sent: Any, message: str, tmp_path: Path) -> None:
    built = learned(pd.DataFrame({"c": fitted}), tmp_path)
    with pytest.raises(InferenceError, match=message):
        through(pd.DataFrame({"c": sent}), built, v2)


def test_unused_columns_may_be_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0], "name": ["x"]})
    Sighting(frame, "").describe().write(tmp_path)
    fitted = FittedOn.read(tmp_path)
    assert fitted is not None
    built = Frame(fitted, frozenset({"name"}))
    pd.testing.assert_frame_equal(through(frame[["a"]], built, v2), frame[["a"]])
    with pytest.raises(InferenceError, match="missing a"):
        through(frame[["name"]], built, v2)


def test_secrets_are_no_examples(tmp_path: Path) -> None:
    frame = pd.DataFrame({"api_token": ["planted"], "note": ["x" * 500], "pin code": ["1234"]})
    text = json.dumps([c.example for c in Sighting(frame, "").describe().columns])
    assert "planted" not in text
    assert "1234" not in text
    assert len(text) < 300
    bare = Sighting(frame, "").describe().without_example()
    assert [column.example for column in bare.columns] == [None] * 3


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / INPUTS_FILE).write_text('{"columns": 3}')
    with pytest.raises(ValueError, match=f"invalid {INPUTS_FILE}"):
        FittedOn.read(tmp_path)
    assert FittedOn.read(tmp_path / "elsewhere") is None

"""Tensors on the wire: every datatype there and back, in JSON and raw, and what is no tensor."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.errors import InferenceError
from kaptain_magics.serving.protocol.binary import read_raw, split_body, write_raw
from kaptain_magics.serving.protocol.datatypes import DTYPES, datatype_of, dtype_of
from kaptain_magics.serving.protocol.tensors import as_tensor, read_data, read_shape, write_data
from kaptain_magics.serving.protocol.v2 import write_tensors

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def numbers(datatype: str, finite: bool) -> st.SearchStrategy[Any]:
    dtype = DTYPES[datatype]
    elements = arrays.from_dtype(dtype, allow_nan=not finite, allow_infinity=not finite)
    return arrays.arrays(dtype, SHAPES, elements=elements)


def texts(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return arrays.arrays(object, SHAPES, elements=elements, fill=elements)


NUMBERS = [name for name in DTYPES if name != "BYTES"]


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_travel_in_json(datatype: str) -> None:
    @given(array=numbers(datatype, finite=True), nested=st.booleans())
    def check(array: Any, nested: bool) -> None:
        found, carried = as_tensor(array)
        assert found == datatype
        data = orjson.loads(orjson.dumps(write_data(found, carried), None, orjson.OPT_SERIALIZE_NUMPY))
        if nested:
            data = np.array(data, dtype=object).reshape(array.shape).tolist() if array.size else data
        back = read_data(data, datatype, array.shape, "x")
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)

    check()


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_travel_raw(datatype: str) -> None:
    @given(array=numbers(datatype, finite=False))
    def check(array: Any) -> None:
        back = read_raw(memoryview(write_raw(datatype, array)), datatype, array.shape, "x")
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)

    check()


@given(array=texts(st.text(max_size=5).map(str.encode)))
def test_texts_travel_in_json(array: Any) -> None:
    data = orjson.loads(orjson.dumps(write_data("BYTES", array)))
    np.testing.assert_array_equal(read_data(data, "BYTES", array.shape, "x"), array)


@given(array=texts(st.binary(max_size=5)))
def test_bytes_travel_raw(array: Any) -> None:
    np.testing.assert_array_equal(read_raw(memoryview(write_raw("BYTES", array)), "BYTES", array.shape, "x"), array)


@given(data=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), st.lists))
def test_any_json_is_a_tensor_or_refused(data: Any) -> None:
    for datatype in DTYPES:
        try:
            array = read_data(data, datatype, (2, 2), "x")
        except InferenceError:
            continue
        assert array.shape == (2, 2)
        assert array.dtype == DTYPES[datatype]


@given(raw=st.binary(max_size=40), shape=SHAPES)
def test_any_bytes_are_a_tensor_or_refused(raw: bytes, shape: tuple[int, ...]) -> None:
    for datatype in DTYPES:
        try:
            assert read_raw(memoryview(raw), datatype, shape, "x").shape == shape
        except InferenceError:
            continue


@pytest.mark.parametrize(
    ("data", "datatype", "shape"),
    [
        ([1.5], "INT64", (1,)),
        ([True], "INT64", (1,)),
        ([True], "FP32", (1,)),
        ([1], "BOOL", (1,)),
        (["1"], "FP32", (1,)),
        ([1, None, "a"], "INT32", (3,)),
        ([2**53 + 1, None], "INT64", (2,)),
        ([300], "UINT8", (1,)),
        ([-1], "UINT8", (1,)),
        ([-1], "UINT64", (1,)),
        ([2**64], "UINT64", (1,)),
        ([2**63], "INT64", (1,)),
        ([1e39], "FP32", (1,)),
        ([1e6], "FP16", (1,)),
        ([[1, 2], [3]], "INT64", (3,)),
        ([[1, 2], [3, 4]], "INT64", (4,)),
        ([[1, 2], [3, 4]], "INT64", (4, 1)),
        ([1, 2, 3], "INT64", (2, 2)),
        ([], "INT64", (1,)),
        ([[], []], "INT64", (2, 1)),
        ([1], "BYTES", (1,)),
        ([None, 1], "BYTES", (2,)),
        ([["a"], "b"], "BYTES", (2,)),
        ([["a", "b"]], "BYTES", (2, 1)),
        (["a"], "BYTES", (2,)),
        ("a", "BYTES", (1,)),
        ({"0": 1}, "INT64", (1,)),
        (1, "INT64", ()),
        ([1], "INT128", (1,)),
        ([1], "fp32", (1,)),
    ],
)
def test_what_is_no_tensor(data: Any, datatype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InferenceError):
        read_data(data, datatype, shape, "x")


def test_null_is_not_a_number() -> None:
    array = read_data([None, 1, 2.5], "FP32", (3,), "x")
    assert math.isnan(array[0])
    assert array[1:].tolist() == [1.0, 2.5]


def test_large_whole_numbers_keep_every_digit() -> None:
    assert read_data([2**64 - 1, 0], "UINT64", (2,), "x").tolist() == [2**64 - 1, 0]
    assert read_data([2**63, 1], "UINT64", (2,), "x").tolist() == [2**63, 1]


@pytest.mark.parametrize("shape", [None, 1, "1", [-1], [1.0], ["1"], [True], [1] * 33, {}])
def test_what_is_no_shape(shape: Any) -> None:
    with pytest.raises(InferenceError):
        read_shape({"shape": shape}, "x")


@pytest.mark.parametrize("header", [b"", b"-1", b"99", b"1.0", b"x", b"9" * 30])
def test_what_is_no_header_length(header: bytes) -> None:
    with pytest.raises(InferenceError):
        split_body(b"{}", header)


def test_other_dtypes_find_a_datatype_or_none() -> None:
    assert datatype_of(np.dtype(">f4")) == "FP32"
    assert datatype_of(np.longdouble) == "FP64"
    assert datatype_of("U3") == datatype_of("S3") == datatype_of(object) == "BYTES"
    assert as_tensor(np.array([1], dtype=">i4"))[1].dtype == np.dtype(np.int32)
    assert as_tensor(np.float64(3.0))[1].shape == ()
    for dtype in (complex, "datetime64[s]"):
        with pytest.raises(InferenceError):
            datatype_of(dtype)
    with pytest.raises(InferenceError):
        dtype_of("COMPLEX")


def test_bytes_that_are_no_text_are_refused_in_json() -> None:
    with pytest.raises(InferenceError, match="binary_data"):
        write_data("BYTES", np.array([b"\xff"], dtype=object))


def test_a_request_has_no_parameters_that_it_does_not_need() -> None:
    tensors, raw = write_tensors({"x": np.zeros(1), "y": np.zeros(1)}, lambda name: name == "y")
    assert [tensor.get("parameters", "none") for tensor in tensors] == ["none", {"binary_data_size": 8}]
    assert raw == [bytes(8)]

"""What a served model takes before it is asked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kaptain_magics.serving.inference.metrics import Metrics
from kaptain_magics.serving.inference.served import Served
from kaptain_magics.serving.protocol.limits import Limits
from kaptain_magics.serving.protocol.protocol_errors import RequestError
from kaptain_magics.serving.signature import Signature, TensorSpec


def infer(spec: TensorSpec, array: Any) -> Any:
    """Ask a model that answers its own input."""
    model: Any = SimpleNamespace(
        signature=Signature((spec,), (TensorSpec("y", "FP64", (-1,)),)),
        predict=lambda inputs, *_: {"y": inputs["x"]},
        batchable=False,
    )
    served = Served("m", "1", Limits(), Metrics())

    async def ask() -> Any:
        served.open(model)
        try:
            return (await served.infer({"x": array}, (), {}))["y"]
        finally:
            served.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("datatype", ["INT64", "UINT8", "BOOL"])
def test_whole_numbers_have_no_missing_ones(datatype: str) -> None:
    """``null`` makes them floats, and a cast of NaN to an integer would be any number."""
    with pytest.raises(RequestError, match="has missing values"):
        infer(TensorSpec("x", datatype, (-1,)), np.array([1.0, np.nan]))


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", "FP64", (-1,)),
        TensorSpec("x", "INT64", (-1,), nullable=True),
        TensorSpec(
            "x", "INT64", (-1,), dtype="int64"
        ),  # a frame's column: pandas makes floats of it, as it did in memory
    ],
)
def test_floats_and_columns_may_have_them(spec: TensorSpec) -> None:
    assert np.isnan(infer(spec, np.array([1.0, np.nan]))[1])

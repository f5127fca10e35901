"""Conditions on runs are read from the syntax tree, and nothing of them is evaluated."""

from __future__ import annotations

from typing import Any

import pytest

from kaptain_magics.core.conditions import Condition

VALUES = {"accuracy": 0.95, "gamma": 0.01, "kernel": "rbf", "val-loss": 0.3, "params.depth": 3, "tags": ("a", "b")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy>0.9", True),
        ("accuracy > 0.9 and gamma < 0.001", False),
        ("accuracy > 0.99 or kernel == 'rbf'", True),
        ("not accuracy > 0.99", True),
        ("0.9 < accuracy <= 0.95", True),
        ("`val-loss` < 0.5", True),
        ("params.depth >= 3", True),
        ("kernel in ['rbf', 'poly']", True),
        ("'a' in tags and 'c' not in tags", True),
        ("missing > 1", False),
        ("kernel > 1", False),
        ("accuracy != None", False),
        ("gamma == '0.01'", True),
        ("accuracy > -1", True),
    ],
)
def test_what_holds(text: str, expected: bool) -> None:
    assert Condition(text).holds(VALUES) is expected


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy >", "f(1) > 2", "accuracy + 1 > 2", "x := 3", "a.b().c > 1", "a is 3", "1"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        Condition(text)


def test_nothing_is_evaluated() -> None:
    class Bomb:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    assert Condition("a.secret == 1").holds({"a": Bomb()}) is False

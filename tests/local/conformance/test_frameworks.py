"""A framework of ours and the toy framework, one file and one entry point, pass the suite of all frameworks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaptain_magics.testing.framework import FrameworkSuite
from tests.distributions import install

ENTRY_POINT = "[kaptain_magics.frameworks]\ntoyboost = toyboost\n"


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = Path(__file__).parents[1] / "serving" / "toyboost.py"
    install(module, ENTRY_POINT, tmp_path / "site", monkeypatch)
    monkeypatch.delitem(sys.modules, "toyboost", raising=False)
    yield
    sys.modules.pop("toyboost", None)


@pytest.mark.usefixtures("_installed")
class TestToyBoost(FrameworkSuite):
    framework = "toyboost"
    rows = np.array([[2.0], [3.0], [-1.5]])

    def model(self) -> Any:
        from toyboost import Booster

        return Booster(40.0)


class TestScikitLearn(FrameworkSuite):
    framework = "sklearn"
    rows = np.array([[0.0, 1.0], [1.0, 0.5], [2.0, -1.0]])

    def model(self) -> Any:
        from sklearn.linear_model import LinearRegression

        return LinearRegression().fit(self.rows, [1.0, 2.0, 4.0])

"""Served models that the tests of the server share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from tests.servers import ADDER, ECHO, ModelServer, predictor


@pytest.fixture(scope="session")
def digits() -> Any:
    return load_digits()


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    folder = tmp_path_factory.mktemp("served") / "digits"
    folder.mkdir()
    joblib.dump(SVC(gamma=0.001).fit(digits.data[:899], digits.target[:899]), folder / "model.joblib")
    return folder


@pytest.fixture(scope="session")
def digits_server(digits_folder: Path) -> Iterator[ModelServer]:
    with ModelServer(digits_folder, "sklearn", "--grpc-port", "0", name="dev-mnist") as server:
        yield server


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = predictor(tmp_path_factory.mktemp("served") / "echo", ECHO)
    with ModelServer(folder, "python", "--grpc-port", "0", "--max-body", "1000000", "--max-rows", "5000") as server:
        yield server


@pytest.fixture(scope="session")
def adder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return predictor(tmp_path_factory.mktemp("served") / "adder", ADDER)

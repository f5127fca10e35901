"""A damaged or foreign file of every framework is refused in a sentence, without running what it holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.frameworks.test_frameworks import need

LOAD = """
import sys
from pathlib import Path
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.errors import KaptainError
from kaptain_magics.serving.loaders.load_model import load_model
try:
    load_model(ModelFramework(sys.argv[1]), Path(sys.argv[2]), {})
except KaptainError as error:
    print(type(error).__name__, error.message.splitlines()[0], "|", error.hint)
"""
WHOLE_MODULE = """
import sys, torch
torch.save(torch.nn.Linear(2, 1), sys.argv[1])
"""
WEIGHTS = """
import sys, torch
torch.save(torch.nn.Linear(2, 1).state_dict(), sys.argv[1])
"""
UNNAMED = """
import sys, tensorflow as tf
tf.saved_model.save(tf.Module(), sys.argv[1])
"""


def load(framework: str, folder: Path) -> str:
    """Load a folder in a process of its own and return what it says."""
    command = [sys.executable, "-c", LOAD, framework, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make(code: str, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("framework", "file", "said"),
    [
        ("xgboost", "model.ubj", "model.ubj is not an XGBoost model"),
        ("xgboost", "model.json", "model.json is not an XGBoost model"),
        ("lightgbm", "model.txt", "model.txt is not a LightGBM model"),
        ("onnx", "model.onnx", "model.onnx cannot be loaded by onnxruntime"),
        ("pytorch", "model.pt2", "model.pt2 cannot be loaded by torch"),
        ("pytorch", "model.pt", "model.pt holds more than weights"),
        ("tensorflow", "model.keras", "model.keras cannot be loaded by Keras"),
        ("tensorflow", "0001/saved_model.pb", "0001 cannot be loaded by TensorFlow"),
        ("mlflow", "MLmodel", "MLmodel cannot be loaded"),
        ("sklearn", "model.joblib", "model.joblib"),
        ("sklearn", "model.skops", "model.skops"),
    ],
)
def test_a_damaged_file_is_refused(framework: str, file: str, said: str, tmp_path: Path) -> None:
    need(framework)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"damaged: " + bytes(range(256)))
    text = load(framework, tmp_path)
    assert text.startswith(f"ServingError {said}")


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("framework", "file", "code", "said"),
    [
        ("pytorch", "model.pt", WHOLE_MODULE, "model.pt holds more than weights, so it is not loaded"),
        ("pytorch", "model.pt", WEIGHTS, "model.pt holds weights without a model"),
        ("tensorflow", "0001", UNNAMED, "the SavedModel has no signature 'serving_default': it has none"),
    ],
    ids=["pickled module", "weights alone", "no signature"],
)
def test_what_cannot_be_served_is_refused(framework: str, file: str, code: str, said: str, tmp_path: Path) -> None:
    need(framework)
    make(code, tmp_path / file)
    assert load(framework, tmp_path).startswith(f"ServingError {said}")

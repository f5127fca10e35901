"""Which framework an object belongs to, told by its classes alone: nothing is imported to find out."""

from __future__ import annotations

import os
import types
from pathlib import Path

_PACKAGES = {
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "onnx": "onnx",
    "torch": "pytorch",
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "tf_keras": "tensorflow",
    "mlflow": "mlflow",
    "sklearn": "sklearn",
}
_SUFFIXES = {
    ".joblib": "sklearn",
    ".skops": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".txt": "lightgbm",
    ".onnx": "onnx",
    ".pt2": "pytorch",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".keras": "tensorflow",
    ".py": "python",
}


def framework_of(model: object) -> str:
    """Return the name of the framework that made ``model``, empty when its classes and name do not tell."""
    if isinstance(model, (str, os.PathLike)):
        return _framework_of_path(Path(model))
    if isinstance(model, (type, types.FunctionType, types.ModuleType)):
        return "python"
    for cls in type(model).__mro__:  # the most special class first
        framework = _PACKAGES.get(cls.__module__.partition(".")[0])
        if framework:
            return framework
    return ""


def _framework_of_path(path: Path) -> str:
    if (path / "MLmodel").is_file():
        return "mlflow"
    if (path / "saved_model.pb").is_file() or any(path.glob("*/saved_model.pb")):
        return "tensorflow"
    return _SUFFIXES.get(path.suffix, "")

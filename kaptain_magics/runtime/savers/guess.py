"""Which framework an object belongs to, by its classes alone: nothing is imported to find out.

Other distributions bring frameworks by entry point, named as their library's top-level package is (``core.plugins``).
"""

from __future__ import annotations

import os
import sys
import types
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from kaptain_magics.runtime.framework_aliases import FRAMEWORKS_GROUP

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
    """Return the name of the framework that made ``model``, empty when its classes and name do not show it."""
    if isinstance(model, (str, os.PathLike)):
        return _framework_of_path(Path(model))
    if isinstance(model, (type, types.FunctionType, types.ModuleType)):
        return "python"
    roots = [cls.__module__.partition(".")[0] for cls in type(model).__mro__]  # the most special class first
    others = {point.name for point in other_savers()} if _is_unknown(roots[0]) else set()
    return next((_PACKAGES.get(root, root) for root in roots if root in _PACKAGES or root in others), "")


def other_savers(name: str | None = None) -> list[EntryPoint]:
    """Return the savers that other distributions bring, or those of one framework; reading them takes 20 to 30 ms."""
    points = entry_points(group=FRAMEWORKS_GROUP)
    return [point for point in points if name is None or point.name == name]


def _is_unknown(root: str) -> bool:
    return root not in _PACKAGES and root != "__main__" and root not in sys.stdlib_module_names


def _framework_of_path(path: Path) -> str:
    if (path / "MLmodel").is_file():
        return "mlflow"
    if (path / "saved_model.pb").is_file() or any(path.glob("*/saved_model.pb")):
        return "tensorflow"
    return _SUFFIXES.get(path.suffix, "")

"""Other names of frameworks, as people write them: those of their packages and their usual short forms."""

from __future__ import annotations

FRAMEWORKS_GROUP = "kaptain_magics.frameworks"  # of the entry points by which other distributions bring one
FRAMEWORK_ALIASES = {
    "scikit-learn": "sklearn",
    "scikit_learn": "sklearn",
    "xgb": "xgboost",
    "lgbm": "lightgbm",
    "torch": "pytorch",
    "tf": "tensorflow",
    "keras": "tensorflow",
    "onnxruntime": "onnx",
    "pyfunc": "mlflow",
}


def canonical_name(name: str) -> str:
    """Return our name of a framework: ``scikit-learn`` and ``Sklearn`` are ``sklearn``; unknown names stay."""
    word = name.strip().lower()
    return FRAMEWORK_ALIASES.get(word, word)

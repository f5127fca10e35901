"""The frameworks that a model can be written in, and how they are recognised."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import FrameworkError


class ModelFramework(StrEnum):
    """Library of a model; decides the kind of job and the loader of the server."""

    SKLEARN = "sklearn"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"
    ONNX = "onnx"
    PYTORCH = "pytorch"
    TENSORFLOW = "tensorflow"
    MXNET = "mxnet"
    MLFLOW = "mlflow"
    PYTHON = "python"

    @classmethod
    def of(cls, name: str) -> ModelFramework:
        """Return the framework of that name (``scikit-learn``, ``torch`` and ``tf`` are understood).

        Raises:
            FrameworkError: There is no such framework.
        """
        word = str(name).strip().lower()
        try:
            return cls(_ALIASES.get(word, word))
        except ValueError:
            hint = did_you_mean(word, [*cls, *_ALIASES]) or "one of " + ", ".join(cls)
            raise FrameworkError(f"unknown framework {name!r}", hint) from None

    @classmethod
    def guess(cls, imports: Iterable[str]) -> ModelFramework:
        """Guess the framework from the top-level modules that a script imports.

        The more special library wins: a script that imports scikit-learn and XGBoost trains an XGBoost model.
        """
        roots = {name.partition(".")[0] for name in imports}
        for module, framework in _MODULES.items():
            if module in roots:
                return framework
        return cls.PYTHON


_ALIASES = {
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
_MODULES = {  # most special first
    "xgboost": ModelFramework.XGBOOST,
    "lightgbm": ModelFramework.LIGHTGBM,
    "tensorflow": ModelFramework.TENSORFLOW,
    "keras": ModelFramework.TENSORFLOW,
    "torch": ModelFramework.PYTORCH,
    "mxnet": ModelFramework.MXNET,
    "onnx": ModelFramework.ONNX,
    "onnxruntime": ModelFramework.ONNX,
    "skl2onnx": ModelFramework.ONNX,
    "sklearn": ModelFramework.SKLEARN,
}

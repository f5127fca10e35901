"""The frameworks that a model can be written in, and how they are recognised."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum

from kaptain_magics.core import plugins
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import FrameworkError
from kaptain_magics.runtime.framework_aliases import FRAMEWORK_ALIASES, FRAMEWORKS_GROUP, canonical_name


class ModelFramework(StrEnum):
    """Library of a model; decides the kind of job, the saver and the loader of the server.

    Those of other distributions (see ``core.plugins``) are members too, made when they are named.
    """

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
        word = canonical_name(str(name))
        if word not in cls.__members__.values() and word not in (choices := cls.names()):
            hint = did_you_mean(word, [*choices, *FRAMEWORK_ALIASES]) or "one of " + ", ".join(choices)
            raise FrameworkError(f"unknown framework {name!r}", hint)
        return cls(word)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of our own frameworks and of all others that are installed."""
        return plugins.names(FRAMEWORKS_GROUP, cls)

    @property
    def distributed(self) -> bool:
        """Whether the library itself trains with several workers."""
        return self in (ModelFramework.PYTORCH, ModelFramework.TENSORFLOW, ModelFramework.MXNET)

    @classmethod
    def _missing_(cls, value: object) -> ModelFramework | None:
        """Make a member for a name that is not ours: a record must be readable where its distribution is not."""
        if not isinstance(value, str) or not value.isidentifier():
            return None
        member = str.__new__(cls, value)
        member._name_, member._value_ = value.upper(), value
        return member

    @classmethod
    def guess(cls, imports: Iterable[str]) -> ModelFramework:
        """Guess the framework from the top-level modules that a script imports.

        The more special library wins: a script that imports scikit-learn and XGBoost trains an XGBoost model.
        """
        roots = {name.partition(".")[0] for name in imports}
        for module, framework in _MODULES.items():
            if module in roots:
                return framework
        others = roots.intersection(plugins.names(FRAMEWORKS_GROUP, ())) if roots - sys.stdlib_module_names else set()
        return cls(min(others)) if others else cls.PYTHON


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

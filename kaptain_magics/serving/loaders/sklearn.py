"""Models of scikit-learn, and anything else with a ``predict`` that joblib, pickle or skops saved."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError, ServingError
from kaptain_magics.serving.datatypes import datatype_of
from kaptain_magics.serving.loaders.base import Array, LoadedModel, Signature, TensorSpec, find_file, require
from kaptain_magics.serving.loaders.table import to_frame, to_matrix

_FILES = ("model.joblib", "model.skops", "model.pkl", "model.pickle", "*.joblib", "*.skops", "*.pkl", "*.pickle")
_ON_REQUEST = ("predict_proba", "decision_function", "predict_log_proba", "transform")


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:
    """Load the one model file of ``folder``; ``config["skops_trusted"]`` lists types for skops, by commas."""
    require("sklearn", "scikit-learn")
    path = find_file(folder, _FILES)
    try:
        estimator = _read(path, [t.strip() for t in config.get("skops_trusted", "").split(",") if t.strip()])
    except ModuleNotFoundError as error:
        raise ServingError(
            f"{path.name} needs the module {error.name}, which is not installed here",
            "add it to the requirements of the deployment",
        ) from error
    if not hasattr(estimator, "predict") and not hasattr(estimator, "transform"):
        raise ServingError(
            f"{path.name} holds a {type(estimator).__name__}, which cannot predict", "save the model itself"
        )
    return SklearnModel(estimator, f"sklearn_{path.suffix.lstrip('.')}")


def _read(path: Path, trusted: list[str]) -> Any:
    if path.suffix == ".skops":
        loaded = require("skops.io", "skops")
        unknown = [t for t in loaded.get_untrusted_types(file=path) if t not in trusted]
        if unknown:
            raise ServingError(
                f"{path.name} holds types that skops does not trust: {', '.join(unknown)}",
                'name those that you trust in serving_config["skops_trusted"]',
            )
        return loaded.load(path, trusted=trusted)
    if path.suffix == ".joblib":
        return require("joblib", "joblib").load(path)
    with open(path, "rb") as file:
        return pickle.load(file)


class SklearnModel:
    """An estimator or pipeline.

    Args:
        estimator: The fitted object.
        platform: Its kind as the protocol names it.
    """

    batchable = True

    def __init__(self, estimator: Any, platform: str) -> None:
        self.platform = platform
        self.estimator = estimator
        self.columns = tuple(str(c) for c in getattr(estimator, "feature_names_in_", ()))
        self._default = "predict" if hasattr(estimator, "predict") else "transform"
        self._frame = bool(self.columns) and _selects_columns(estimator)
        self.signature = self._describe()
        warnings.filterwarnings("ignore", "X does not have valid feature names")

    def predict(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, Array]:
        """Call the methods that ``outputs`` names; ``predict`` when it names none."""
        rows = to_frame(inputs, self.columns) if self._frame else to_matrix(inputs, self.columns)
        answer: dict[str, Array] = {}
        for name in outputs or (self._default,):
            method = getattr(self.estimator, name, None) if name in (self._default, *_ON_REQUEST) else None
            if method is None:
                raise InferenceError(f"{type(self.estimator).__name__} has no output {name!r}")
            answer[name] = _dense(method(rows))
        return answer

    def _describe(self) -> Signature:
        if self.columns:
            text = _text_columns(self.estimator)
            inputs = tuple(TensorSpec(c, "BYTES" if c in text else "FP64", (-1,)) for c in self.columns)
        else:
            inputs = (TensorSpec("predict", "FP64", (-1, getattr(self.estimator, "n_features_in_", -1))),)
        classes = getattr(self.estimator, "classes_", None)
        single = isinstance(classes, np.ndarray)
        datatype = datatype_of(classes.dtype) if isinstance(classes, np.ndarray) else "FP64"
        if hasattr(self.estimator, "cluster_centers_") or (hasattr(self.estimator, "labels_") and classes is None):
            datatype = "INT32"
        width = len(classes) if isinstance(classes, np.ndarray) else -1
        further = tuple(
            TensorSpec(
                name, "FP64", (-1, width) if name != "decision_function" or width > 2 or not single else (-1,), True
            )
            for name in _ON_REQUEST
            if name != self._default and hasattr(self.estimator, name)
        )
        return Signature(inputs, (TensorSpec(self._default, datatype, self._shape()), *further))

    def _shape(self) -> tuple[int, ...]:
        if self._default == "transform":
            return (-1, -1)
        many = (
            isinstance(getattr(self.estimator, "classes_", None), list) or getattr(self.estimator, "n_outputs_", 1) > 1
        )
        return (-1, getattr(self.estimator, "n_outputs_", -1)) if many else (-1,)


def _dense(result: Any) -> Array:
    if isinstance(result, list):  # one array per output of a classifier with several
        result = np.stack(result, axis=1)
    if hasattr(result, "toarray"):
        result = result.toarray()
    return np.asarray(result)


def _steps(estimator: Any) -> list[Any]:
    """Return the estimator and everything inside its pipelines and searches."""
    inside = [step for _, step in getattr(estimator, "steps", ())]
    inside += [e for e in (getattr(estimator, "best_estimator_", None), getattr(estimator, "estimator", None)) if e]
    return [estimator, *(found for step in inside for found in _steps(step))]


def _selects_columns(estimator: Any) -> bool:
    return any(type(step).__name__ in ("ColumnTransformer", "FunctionTransformer") for step in _steps(estimator))


def _text_columns(estimator: Any) -> set[str]:
    """Return the columns of which an encoder of a ``ColumnTransformer`` has learned texts."""
    found: set[str] = set()
    for step in _steps(estimator):
        for _, transformer, columns in getattr(step, "transformers_", ()):
            for inner in _steps(transformer):
                for column, learned in zip(columns, getattr(inner, "categories_", ()), strict=False):
                    if np.asarray(learned).dtype.kind in "OUS":
                        found.add(str(column))
    return found

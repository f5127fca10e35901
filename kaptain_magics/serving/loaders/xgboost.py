"""Models of XGBoost, from its own file (``.ubj``, ``.json``): data, never code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaptain_magics.errors import ServingError
from kaptain_magics.serving.loaders.base import find_file, require
from kaptain_magics.serving.loaders.boosting import BoostedTrees
from kaptain_magics.serving.loaders.described import declared_signature, read_description, read_inputs, threads_for
from kaptain_magics.serving.signature import Array, LoadedModel

_FILES = ("model.ubj", "model.json", "*.ubj", "*.bst", "*.model", "*.xgb", "[!k]*.json")
_CLASSIFIES = ("binary:logistic", "binary:hinge", "multi:softprob", "multi:softmax")


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:  # noqa: ARG001
    """Load the one model file of ``folder``; one of the scikit-learn API that stopped early uses its best trees."""
    xgboost = require("xgboost", "xgboost")
    described = read_description(folder)
    path = find_file(folder, _FILES)
    try:
        booster = xgboost.Booster({"nthread": 1}, model_file=str(path))
        learner = json.loads(booster.save_config())["learner"]
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise ServingError(f"{path.name} is not an XGBoost model: {str(error).splitlines()[-1]}") from error
    columns = list(booster.feature_names or ())
    kinds = booster.feature_types or ()
    fitted = read_inputs(folder, booster.num_features())
    model = BoostedTrees(
        f"xgboost_{path.suffix.lstrip('.')}",
        _Score(xgboost, booster, learner, float(described.details.get("missing", "nan"))),
        width=booster.num_features(),
        columns=columns,
        categorical=[column for column, kind in zip(columns, kinds, strict=False) if kind == "c"],
        labels=_labels(booster, learner, described.classes),
        datatype="FP32",
        own=None if booster.attr("scikit_learn") else _own_answer(learner),
        fitted=fitted,
    )
    model.native = _as_saved(xgboost, booster, described.kind, path)
    model.signature = declared_signature(described, model.signature, fitted)
    return model


def _as_saved(xgboost: Any, booster: Any, kind: str, path: Path) -> Any:
    """Return the object of the scikit-learn API that was saved, else the booster."""
    cls = getattr(xgboost, kind, None) if booster.attr("scikit_learn") else None
    if not isinstance(cls, type):
        return booster
    model = cls()
    model.load_model(path)
    return model


def _own_answer(learner: Mapping[str, Any]) -> Callable[[Array], Array]:
    """Return what ``Booster.predict`` makes of the scores: of ``multi:softmax`` the number of a class."""
    if learner["objective"]["name"] == "multi:softmax":
        return lambda scores: scores.argmax(axis=1).astype(np.float32)
    return lambda scores: scores


def _labels(booster: Any, learner: Mapping[str, Any], classes: list[Any]) -> Array | None:
    kind = json.loads(booster.attr("scikit_learn") or "{}").get("_estimator_type")
    if kind != "classifier" and learner["objective"]["name"] not in _CLASSIFIES:
        return None
    if int(learner["learner_model_param"].get("num_target", 1)) > 1:
        return np.empty(0, dtype=np.int64)
    count = max(int(learner["learner_model_param"]["num_class"]), 2)
    return np.asarray(classes) if len(classes) == count else np.arange(count)


class _Score:
    """Asks a booster in place, without a ``DMatrix`` where its kind allows that."""

    def __init__(self, xgboost: Any, booster: Any, learner: Mapping[str, Any], missing: float) -> None:
        self._xgboost = xgboost
        self._booster = booster
        self._in_place = learner["gradient_booster"]["name"] != "gblinear"
        self._margin = learner["objective"]["name"] == "multi:softmax"  # answers labels unless asked for margins
        self._missing = missing
        self._threads = 1
        best = booster.attr("best_iteration") if booster.attr("scikit_learn") else None
        self._trees = (0, int(best) + 1) if best is not None and self._in_place else (0, 0)

    def __call__(self, rows: Any) -> Array:
        if self._threads != threads_for(rows.shape[0]):
            self._threads = threads_for(rows.shape[0])
            self._booster.set_param({"nthread": self._threads})
        if self._in_place and isinstance(rows, np.ndarray):
            kind = "margin" if self._margin else "value"
            scores = self._booster.inplace_predict(
                rows, iteration_range=self._trees, predict_type=kind, missing=self._missing, validate_features=False
            )
        else:
            matrix = self._xgboost.DMatrix(rows, missing=self._missing, enable_categorical=True)
            scores = self._booster.predict(
                matrix, iteration_range=self._trees, output_margin=self._margin, validate_features=False
            )
        return _softmax(scores) if self._margin else np.asarray(scores)


def _softmax(margins: Array) -> Array:
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

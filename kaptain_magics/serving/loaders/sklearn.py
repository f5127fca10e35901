"""Models of scikit-learn, and anything else with a ``predict`` that joblib, pickle or skops saved."""

from __future__ import annotations

import importlib
import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError, KaptainError, ServingError
from kaptain_magics.runtime.fitted import FittedOn
from kaptain_magics.runtime.savers.base import plain_list
from kaptain_magics.serving.loaders.base import as_text, find_file, require
from kaptain_magics.serving.loaders.described import declared_signature, read_description, read_inputs
from kaptain_magics.serving.loaders.frame import Frame
from kaptain_magics.serving.loaders.table import to_frame, to_matrix
from kaptain_magics.serving.protocol.datatypes import datatype_of
from kaptain_magics.serving.signature import Array, LoadedModel, Signature, TensorSpec

_FILES = ("model.joblib", "model.skops", "model.pkl", "model.pickle", "*.joblib", "*.skops", "*.pkl", "*.pickle")
_log = logging.getLogger(__name__)
_OF_CLASSES = ("predict_proba", "predict_log_proba", "decision_function")
_ON_REQUEST = ("predict_proba", "decision_function", "predict_log_proba", "transform")


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:
    """Load the one model file of ``folder``; ``config["skops_trusted"]`` lists types for skops, by commas."""
    require("sklearn", "scikit-learn")
    described = read_description(folder)
    path = find_file(folder, (described.model,) if (folder / described.model).is_file() else _FILES)
    try:
        estimator = _read(path, [t.strip() for t in config.get("skops_trusted", "").split(",") if t.strip()])
    except ModuleNotFoundError as error:
        raise ServingError(
            f"{path.name} needs the module {error.name}, which is not installed here",
            "add it to the requirements of the deployment, or save it with extra_files",
        ) from error
    except KaptainError:
        raise
    except Exception as error:  # a pickle may raise anything
        raise ServingError(
            f"{path.name} cannot be loaded: {type(error).__name__}: {error}",
            "serve it with the versions that saved it, or save it again",
        ) from error
    if not hasattr(estimator, "predict") and not hasattr(estimator, "transform"):
        raise ServingError(
            f"{path.name} holds a {type(estimator).__name__}, which cannot predict", "save the model itself"
        )
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    fitted = read_inputs(folder, getattr(estimator, "n_features_in_", None), names)
    model = SklearnModel(estimator, f"sklearn_{path.suffix.lstrip('.')}", fitted)
    model.signature = declared_signature(described, model.signature, fitted)
    return model


def _read(path: Path, trusted: list[str]) -> Any:
    if path.suffix == ".skops":
        loaded = require("skops.io", "skops")
        types = loaded.get_untrusted_types(file=path)
        trusted = [*trusted, *(t for t in types if _is_of_sklearn(t))]
        unknown = [t for t in types if t not in trusted]
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


def _is_of_sklearn(name: str) -> bool:
    """Whether a type is a class of scikit-learn itself, such as its trees, which skops leaves to us to trust."""
    module, _, kind = name.rpartition(".")
    return module.startswith("sklearn.") and isinstance(getattr(importlib.import_module(module), kind, None), type)


class SklearnModel:
    """An estimator or pipeline.

    Args:
        estimator: The fitted object.
        platform: Its kind as the protocol names it.
        fitted: What it was fitted on, where that is known.
    """

    batchable = True

    def __init__(self, estimator: Any, platform: str, fitted: FittedOn | None = None) -> None:
        self.platform = platform
        self.estimator = self.native = estimator
        self.columns = tuple(str(c) for c in getattr(estimator, "feature_names_in_", ()))
        self._default = "predict" if hasattr(estimator, "predict") else "transform"
        self._frame = bool(self.columns) and _selects_columns(estimator)
        self._sparse = fitted is not None and fitted.sparse
        self._fitted: Frame | None = None
        if fitted is not None and fitted.kind == "frame":
            self._fitted = Frame(fitted, _unused_columns(estimator))
            self.columns = self._fitted.names
            self._frame = self._frame or not (self._fitted.is_plain and _takes_matrix(estimator))
        self._reads_texts = not self.columns and any(hasattr(step, "build_analyzer") for step in _steps(estimator))
        self._texts = _text_columns(estimator)
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        self.signature = Signature(self._describe_inputs())
        self.signature = Signature(self.signature.inputs, tuple(self._describe_outputs()))

    def predict(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, Array]:
        """Call the methods that ``outputs`` names; ``predict`` when it names none."""
        rows = self._rows(inputs)
        answer: dict[str, Array] = {}
        for name in outputs or (self._default,):
            method = getattr(self.estimator, name, None) if name in (self._default, *_ON_REQUEST) else None
            if method is None:
                raise InferenceError(f"{type(self.estimator).__name__} has no output {name!r}")
            answer[name] = _dense(method(rows))
        return answer

    def _rows(self, inputs: Mapping[str, Array]) -> Any:
        if self._reads_texts and len(inputs) == 1:
            return as_text(next(iter(inputs.values()))).reshape(-1)
        if self._fitted is not None and self._frame:
            return self._fitted.build(inputs)
        if self._sparse:
            return require("scipy.sparse", "scipy").csr_matrix(to_matrix(inputs, self.columns))
        return to_frame(inputs, self.columns) if self._frame else to_matrix(inputs, self.columns)

    def _describe_inputs(self) -> tuple[TensorSpec, ...]:
        if self._fitted is not None:
            return self._fitted.specs()
        if self.columns:
            kinds = {c: "BYTES" if c in self._texts else "FP64" for c in self.columns}
            return tuple(TensorSpec(c, kind, (-1,), nullable=True) for c, kind in kinds.items())
        if self._reads_texts:
            return (TensorSpec("predict", "BYTES", (-1,)),)
        return (TensorSpec("predict", "FP64", (-1, getattr(self.estimator, "n_features_in_", -1))),)

    def _describe_outputs(self) -> Iterator[TensorSpec]:
        """Ask the model about one row: what it answers is what it really gives, and the first request finds it warm."""
        row = {spec.name: self._example(spec) for spec in self.signature.inputs}
        if self._fitted is not None:
            row = self._fitted.example()
        for name in (self._default, *(name for name in _ON_REQUEST if name != self._default)):
            if not hasattr(self.estimator, name):
                continue
            try:
                output = self.predict(row, (name,), {})[name]
                shape = (-1, *output.shape[1:])
                yield TensorSpec(
                    name, datatype_of(output.dtype), shape, name != self._default, classes=self._classes(name, shape)
                )
            except Exception as error:  # a row of zeros is no input for every model
                if self._fitted is not None:
                    _log.warning("%s refuses a row of what the model was fitted on: %s", name, error)
                shape = (-1,) if name == "predict" else (-1, -1)
                yield TensorSpec(name, "FP64", shape, name != self._default, classes=self._classes(name, shape))

    def _classes(self, output: str, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """Return the labels that the columns of an output stand for."""
        labels = plain_list(getattr(self.estimator, "classes_", None)) if output in _OF_CLASSES else []
        return tuple(labels) if len(shape) == 2 and shape[1] in (-1, len(labels)) else ()

    def _example(self, spec: TensorSpec) -> Array:
        if spec.datatype == "BYTES":
            return np.array([self._texts.get(spec.name, "").encode()], dtype=object)
        return np.zeros((1, *(max(size, 1) for size in spec.shape[1:])))


def _takes_matrix(estimator: Any) -> bool:
    """Whether all that looks at columns is scikit-learn's own, which makes a matrix of a frame of numbers itself."""
    return all(type(step).__module__.startswith("sklearn.") for step in _steps(estimator))


def _unused_columns(estimator: Any) -> frozenset[str]:
    """Return the columns that a ``ColumnTransformer``, which is the first to see them, drops."""
    first = estimator
    while hasattr(first, "steps") or hasattr(first, "best_estimator_"):
        first = first.steps[0][1] if hasattr(first, "steps") else first.best_estimator_
    parts = getattr(first, "transformers_", ()) if type(first).__name__ == "ColumnTransformer" else ()
    names = [str(name) for name in getattr(first, "feature_names_in_", ())]
    dropped: set[str] = set()
    used: set[str] = set()
    for _, transformer, columns in parts:
        listed = [columns] if isinstance(columns, str) else columns if isinstance(columns, (list, tuple)) else names
        chosen = {names[column] if isinstance(column, int) else str(column) for column in listed}
        (dropped if isinstance(transformer, str) and transformer == "drop" else used).update(chosen)
    return frozenset(dropped - used)


def _dense(result: Any) -> Array:
    if isinstance(result, list):  # one array per output of a classifier with several
        result = np.stack(result, axis=1)
    if hasattr(result, "toarray"):
        result = result.toarray()
    return np.asarray(result)


def _steps(estimator: Any) -> list[Any]:
    """Return the estimator and everything inside its pipelines and searches."""
    inside = [step for _, step in getattr(estimator, "steps", ())]
    inside += [getattr(estimator, name) for name in ("best_estimator_", "estimator") if hasattr(estimator, name)]
    return [estimator, *(part for step in inside if step is not None for part in _steps(step))]


def _selects_columns(estimator: Any) -> bool:
    return any(type(step).__name__ in ("ColumnTransformer", "FunctionTransformer") for step in _steps(estimator))


def _text_columns(estimator: Any) -> dict[str, str]:
    """Return the columns of which an encoder of a ``ColumnTransformer`` has learned texts, with one text of each."""
    encoders: dict[str, str] = {}
    for step in _steps(estimator):
        for _, transformer, columns in getattr(step, "transformers_", ()):
            for inner in _steps(transformer):
                for column, learned in zip(columns, getattr(inner, "categories_", ()), strict=False):
                    if np.asarray(learned).dtype.kind in "OUS":
                        encoders[str(column)] = str(learned[0])
    return encoders

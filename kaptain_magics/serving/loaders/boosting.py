"""Boosted trees: what XGBoost and LightGBM have in common, which is how scores become labels and probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kaptain_magics.errors import InferenceError
from kaptain_magics.runtime.fitted import FittedOn
from kaptain_magics.serving.loaders.base import require
from kaptain_magics.serving.loaders.frame import Frame
from kaptain_magics.serving.loaders.table import to_frame, to_matrix
from kaptain_magics.serving.protocol.datatypes import datatype_of
from kaptain_magics.serving.signature import Array, Signature, TensorSpec


class BoostedTrees:
    """A booster that answers as its library does: of its scikit-learn API labels, else what its ``predict`` answers.

    Args:
        platform: Its kind as the protocol names it.
        score: From a matrix or frame of rows to values ``[n]`` or ``[n, outputs]``; probabilities of a classifier.
        width: Features of a row.
        columns: Names of the features; empty when it has none.
        categorical: Those of them that hold texts of a category.
        labels: The classes of a classifier in the order of its probabilities; ``None`` for other models. An empty one
            stands for several labels at once.
        datatype: The datatype that the library calculates in.
        own: From scores to what the booster's own ``predict`` answers; ``None`` where the model is one of the library's
            scikit-learn API, whose classifiers answer labels.
        fitted: What it was fitted on, where that is known.
    """

    batchable = True
    native: Any = None  # the booster itself

    def __init__(
        self,
        platform: str,
        score: Callable[[Any], Array],
        *,
        width: int,
        columns: Sequence[str],
        categorical: Sequence[str],
        labels: Array | None,
        datatype: str,
        own: Callable[[Array], Array] | None = None,
        fitted: FittedOn | None = None,
    ) -> None:
        self.platform = platform
        self._score = score
        self._width = width
        self._columns = tuple(columns)
        self._categorical = tuple(categorical)
        self._labels = labels
        self._own = own
        self._sparse = fitted is not None and fitted.sparse
        self._frame: Frame | None = None
        if fitted is not None and fitted.kind == "frame":
            self._frame = Frame(fitted)
            self._columns = self._frame.names
        self.signature = self._describe(datatype)

    def predict(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, Array]:
        """Return labels or values as ``predict``; a classifier's probabilities as ``predict_proba`` on request."""
        names = outputs or ("predict",)
        for name in names:
            if name != "predict" and (name != "predict_proba" or self._labels is None):
                raise InferenceError(f"the model has no output {name!r}")
        scores = self._score(self._rows(inputs))
        return {name: self._decide(scores) if name == "predict" else _probabilities(scores) for name in names}

    def _rows(self, inputs: Mapping[str, Array]) -> Any:
        if self._frame is not None and not self._frame.is_plain:
            return self._frame.build(inputs)
        if self._frame is None and self._categorical:
            frame = to_frame(inputs, self._columns)
            return frame.astype(dict.fromkeys(self._categorical, "category"))
        rows = to_matrix(inputs, self._columns)
        if rows.ndim != 2 or rows.shape[1] != self._width:
            raise InferenceError(f"the model takes rows of {self._width} features, not shape {list(rows.shape)}")
        rows = rows.astype(np.float64) if rows.dtype.kind not in "fiu" else rows
        return require("scipy.sparse", "scipy").csr_matrix(rows) if self._sparse else rows

    def _decide(self, scores: Array) -> Array:
        if self._own is not None:
            return self._own(scores)
        if self._labels is None:
            return scores
        if not len(self._labels):
            return (scores > 0.5).astype(np.int64)
        best = scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0.5).astype(np.int64)
        return np.asarray(self._labels[best])

    def _describe(self, datatype: str) -> Signature:
        if self._frame is not None:
            inputs = self._frame.specs()
        elif self._columns:
            text = set(self._categorical)
            inputs = tuple(TensorSpec(c, "BYTES" if c in text else datatype, (-1,)) for c in self._columns)
        else:
            inputs = (TensorSpec("predict", datatype, (-1, self._width)),)
        labels = self._labels
        if labels is None or self._own is not None:
            row = self._frame.example() if self._frame is not None else {s.name: _zeros(s) for s in inputs}
            example = self._decide(self._score(self._rows(row)))
            predict = TensorSpec("predict", datatype_of(example.dtype), (-1, *example.shape[1:]))
        else:
            predict = TensorSpec("predict", datatype_of(labels.dtype), (-1,) if len(labels) else (-1, -1))
        if labels is None:
            return Signature(inputs, (predict,))
        names = tuple(labels.tolist())
        proba = TensorSpec("predict_proba", datatype, (-1, len(labels) or -1), on_request=True, classes=names)
        return Signature(inputs, (predict, proba))


def _probabilities(scores: Array) -> Array:
    return scores if scores.ndim > 1 else np.stack([1 - scores, scores], axis=1)


def _zeros(spec: TensorSpec) -> Array:
    shape = [max(size, 1) for size in spec.shape]
    return np.full(shape, b"", dtype=object) if spec.datatype == "BYTES" else np.zeros(shape)

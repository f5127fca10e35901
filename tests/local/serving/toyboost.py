"""A library and its framework as another distribution would bring them: one file and one entry point."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Booster:
    """Adds a constant."""

    def __init__(self, constant: float) -> None:
        self.constant = constant

    def predict(self, rows: Any) -> Any:
        """Return the first column plus the constant."""
        return rows[:, 0] + self.constant


def save(model: Booster, folder: Path, options: Any) -> Any:
    """Write the model."""
    from kaptain_magics.runtime.savers.base import Description

    (folder / "model.toy").write_text(json.dumps(model.constant))
    return Description("toyboost", "toy", "model.toy", kind=type(model).__name__)


class Loaded:
    """The model in the server."""

    platform, batchable = "toyboost_toy", True

    def __init__(self, booster: Booster) -> None:
        from kaptain_magics.serving.signature import Signature, TensorSpec

        self._booster = booster
        self.signature = Signature((TensorSpec("x", "FP64", (-1, 1)),), (TensorSpec("predict", "FP64", (-1,)),))

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str], parameters: Mapping[str, Any]) -> Any:
        """Ask the model."""
        return {"predict": self._booster.predict(inputs["x"])}


def load(folder: Path, config: Mapping[str, str]) -> Loaded:
    """Read the model."""
    return Loaded(Booster(json.loads((folder / "model.toy").read_text())))

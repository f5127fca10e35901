"""Plain Python predictors: a file with ``predict(inputs)``, or with a class that has it. It runs: it is its purpose.

A predictor of the script itself is a pickle with its code.

``predict`` gets a dict of NumPy arrays by name (texts as ``str``) and returns one array, or a dict of arrays by name.
``predict_proba``, where there is one, is an output on request. ``load(folder)`` is called once before. A predictor that
answers row by row may set ``batchable = True``: then rows of several requests come in one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaptain_magics.errors import ServingError
from kaptain_magics.runtime.savers.pickled import BY_VALUE
from kaptain_magics.serving.loaders.base import as_text, find_file
from kaptain_magics.serving.loaders.described import (
    choose_outputs,
    declared_signature,
    import_file,
    read_description,
    unpickle,
)
from kaptain_magics.serving.signature import Array, LoadedModel, Signature


def load(folder: Path, config: Mapping[str, str]) -> LoadedModel:
    """Import ``config["model_file"]``, ``model.py`` or the only Python file of ``folder``, and find its predictor."""
    named = Path(config.get("model_file", "")).name
    described = read_description(folder)
    if described.format == BY_VALUE and not named:
        predictor = _unpickled(folder / described.model)
    else:
        path = find_file(folder, (named,) if named else ("model.py", "*.py"))
        predictor = _predictor(import_file(path), described.details.get("entry", ""), path.name)
    if hasattr(predictor, "load"):
        predictor.load(folder)
    model = PythonModel(predictor)
    model.signature = declared_signature(described, model.signature)
    return model


def _unpickled(path: Path) -> Any:
    """Return the predictor of a script's own: an object, an object of a class, or a function."""
    predictor = unpickle(path)
    if isinstance(predictor, type):
        predictor = predictor()
    return predictor if callable(getattr(predictor, "predict", None)) else _Function(predictor)


def _predictor(module: Any, entry: str, file: str) -> Any:
    """Return the object that has ``predict``: what ``entry`` names, the module, or an object of its only such class."""
    if not entry and callable(getattr(module, "predict", None)):
        return module
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and callable(getattr(value, "predict", None))
    }
    if entry and entry not in classes and callable(getattr(module, entry, None)):
        return _Function(getattr(module, entry))
    chosen = [classes[entry]] if entry in classes else list(classes.values())
    if len(chosen) != 1:
        raise ServingError(
            f"{file} must define predict(inputs) or one class that has it, it has {', '.join(classes) or 'none'}",
            "leave one predictor in that file",
        )
    return chosen[0]()


class _Function:
    def __init__(self, function: Any) -> None:
        self.predict = function


class PythonModel:
    """A predictor of the model's author."""

    platform = "python"

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self.native = predictor.predict if isinstance(predictor, _Function) else predictor
        self.batchable = bool(getattr(predictor, "batchable", False))
        self.signature = Signature()

    def predict(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, Array]:
        """Call the predictor; with texts as ``str``, and for ``predict_proba`` only where a request names it."""
        given = {name: as_text(array) for name, array in inputs.items()}
        answers: dict[str, Array] = {}
        if not outputs or any(name != "predict_proba" for name in outputs):
            answers = self._named(self._predictor.predict(given))
        if "predict_proba" in outputs and hasattr(self._predictor, "predict_proba"):
            answers["predict_proba"] = np.asarray(self._predictor.predict_proba(given))
        return choose_outputs(answers, outputs)

    def _named(self, answer: Any) -> dict[str, Array]:
        if isinstance(answer, Mapping):
            return {str(name): np.asarray(value) for name, value in answer.items()}
        declared = [spec.name for spec in self.signature.outputs if not spec.on_request]
        return {declared[0] if len(declared) == 1 else "predict": np.asarray(answer)}

"""Model and metrics of a script that names neither: taken where they are clear, and one line says which."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from typing import Any

from kaptain_magics.runtime.channel import has_sent, log_metrics, say
from kaptain_magics.runtime.found_models import find_model, names_in_loops
from kaptain_magics.runtime.found_scores import Scores
from kaptain_magics.runtime.results import save

_LIBRARIES = frozenset({"sklearn", "xgboost", "lightgbm", "catboost", "torch", "keras", "tensorflow"})


class ResultFinder:
    """Finds the model and the metrics of one script.

    What the script itself saves or reports comes first: then nothing is looked for.

    Args:
        tree: The script; it is changed where it computes scores, so that their values are noted.
        program: What was asked for; see ``launch``.
    """

    def __init__(self, tree: ast.Module, program: Mapping[str, Any]) -> None:
        first = os.environ.get("RANK", "0") == "0"  # of the workers of a distributed training
        self._model = bool(program.get("find_model")) and first
        self._scores = _scores_of(tree) if program.get("find_metrics") and first else None
        self._trial = os.environ.get("MODEL_LIFECYCLE_PHASE") == "tune"  # the training said what is taken
        self._looped = names_in_loops(tree)
        self._trains = any(root in _LIBRARIES for node in ast.walk(tree) for root in _roots(node))
        self._given: dict[str, Any] = {}

    def begin(self, namespace: dict[str, Any]) -> None:
        """Prepare the script's variables, right before it runs."""
        if self._scores is not None:
            self._scores.install(namespace)
        self._given = dict(namespace)

    def end(self, namespace: Mapping[str, Any]) -> None:
        """Report and save what there is, now that the script has ended, and say what was taken."""
        saved = self._save(namespace) if self._model and not has_sent("artifact") else ""
        metrics = self._report() if self._scores is not None and not has_sent("metric") else []
        if (saved or metrics) and not self._trial:
            say("; ".join([*([saved] if saved else []), *metrics]))

    def _save(self, namespace: Mapping[str, Any]) -> str:
        try:
            choice = find_model(namespace, self._looped, self._given)
        except Exception as error:  # a variable of any class may raise when it is looked at
            hint = "name it with --model VARIABLE, or save it with kaptain.save_model(model)"
            say(f"no model was saved: looking for one ended with {type(error).__name__}: {error}", hint, warning=True)
            return ""
        if choice.name and save(choice.name, choice.model):
            if choice.text:
                say(choice.text, choice.hint, warning=True)
            return f"saved `{choice.name}` ({type(choice.model).__name__})"
        if choice.text and not choice.name:
            say(choice.text, choice.hint, warning=True)
        elif not choice.name and self._trains:
            hint = "name it with --model VARIABLE, or save it with kaptain.save_model(model); --no-model if it has none"
            say("no model was saved: none of the script's own variables holds a fitted one", hint)
        return ""

    def _report(self) -> list[str]:
        assert self._scores is not None
        clear, unclear = self._scores.values()
        log_metrics({name: value for name, (value, _) in clear.items()})
        if unclear:
            names = ", ".join(unclear)
            say(f"several scores would be the metric {names}", "write --metric NAME=VARIABLE", warning=True)
        return [f"{name} {value:.6g} from `{source}`" for name, (value, source) in clear.items()]


def _scores_of(tree: ast.Module) -> Scores | None:
    try:
        return Scores(tree)
    except RecursionError:  # generated code may be nested deeper than it can be looked at
        return None


def _roots(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name.partition(".")[0] for alias in names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module.partition(".")[0]]
    return []

"""The fitted model that a script leaves among its variables, found without being named; or why none is clear."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

_DEEP = 6  # levels of estimators within estimators that are looked into; bounds what one odd object costs
_LONGEST = 10_000  # items of a list of data, which holds no estimators
_NO_PART = (type, types.FunctionType, types.MethodType, types.ModuleType)
_LISTED = 6  # candidates that a message lists


class Choice(NamedTuple):
    """What there is to save.

    Attributes:
        name: The variable; empty where none is clear.
        model: Its value.
        text: A line for the reader: why none is taken, or what else was fitted.
        hint: What to write.
    """

    name: str = ""
    model: Any = None
    text: str = ""
    hint: str = ""


def names_in_loops(tree: ast.Module) -> set[str]:
    """Return the names that the script's top level binds in loops: each of them is the last of several."""
    names: set[str] = set()
    stack: list[tuple[ast.AST, bool]] = [(node, False) for node in tree.body]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if inside and isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        looping = inside or isinstance(node, (ast.For, ast.AsyncFor, ast.While))
        stack += [(child, looping) for child in ast.iter_child_nodes(node)]
    return names


def find_model(namespace: Mapping[str, Any], looped: Collection[str], given: Mapping[str, Any]) -> Choice:
    """Look for the one fitted model among a script's variables.

    A model inside another one, such as a step of a pipeline, is a part of it. A single predictor is taken, also beside
    fitted transformers, which the line then names; of several none is taken.

    Args:
        namespace: The script's variables.
        looped: Those that a loop binds.
        given: What the script found when it began, which it did not make.
    """
    own = {name: value for name, value in namespace.items() if value is not given.get(name)}
    fitted = dict(_fitted(own))
    outer = _outermost(fitted)
    predictors = {name: model for name, model in outer.items() if _predicts(model)}
    others = {name: model for name, model in outer.items() if name not in predictors}
    candidates = predictors or others
    if not candidates:
        return Choice()
    if len(candidates) > 1:
        listed = _listed(candidates)
        first = next(filter(str.isidentifier, candidates), "")
        named = f"write --model {first}" if first else "save one with kaptain.save_model(model)"
        return Choice(text=f"no model was saved, because several are fitted: {listed}", hint=f"{named}, or --no-model")
    name, model = next(iter(candidates.items()))
    if name in looped:
        return Choice(
            text=f"no model was saved: `{name}` ({type(model).__name__}) is the last one of a loop",
            hint=f"write --model {name} if that is the one, or --no-model",
        )
    if name not in predictors or not others:
        return Choice(name, model)
    labels = {n: other for n, other in others.items() if type(other).__name__ in ("LabelEncoder", "LabelBinarizer")}
    rows = {n: other for n, other in others.items() if n not in labels}
    texts = []
    if rows:
        it, were, are = ("it", "was", "is") if len(rows) == 1 else ("them", "were", "are")
        text = f"{_listed(rows)} {were} fitted too and {are} not part of `{name}`"
        texts.append(f"{text}: if its rows went through {it}, the endpoint takes rows that did so too")
    if labels:
        texts.append(f"if {_listed(labels)} made the classes of `{name}`, the endpoint answers in those codes")
    hint = f"save them as one model: make_pipeline(…, {name})" if rows else f"fit `{name}` to the labels themselves"
    return Choice(name, model, "; ".join(texts), hint)


def _listed(models: Mapping[str, Any]) -> str:
    shown = [f"`{name}` ({type(model).__name__})" for name, model in list(models.items())[:_LISTED]]
    return ", ".join(shown) + (f" and {len(models) - _LISTED} more" if len(models) > _LISTED else "")


def _fitted(namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fitted models with their names, each once; those in a list or dict with their places in it."""
    seen: set[int] = set()
    within: list[tuple[str, Any]] = []
    for name, value in namespace.items():
        if name.startswith("_"):
            continue
        if isinstance(value, (list, tuple)):
            within += [(f"{name}[{index}]", item) for index, item in enumerate(value[:100])]
        elif isinstance(value, dict):
            within += [(f"{name}[{key!r}]", item) for key, item in list(value.items())[:100]]
        elif id(value) not in seen and _is_fitted(value):
            seen.add(id(value))
            yield name, value
    for name, value in within:
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if id(part) not in seen and _is_fitted(part):
                seen.add(id(part))
                yield name, part


def _is_fitted(value: Any) -> bool:
    kind = type(value)
    if isinstance(value, type) or kind.__module__ == "builtins":
        return False
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    try:
        if torch is not None and isinstance(value, torch.nn.Module):
            return any(True for _ in value.parameters())
        if keras is not None and isinstance(value, keras.Model):
            return bool(value.built)
        if kind.__name__ == "Booster" and kind.__module__.partition(".")[0] in ("xgboost", "lightgbm"):
            return True
        if not callable(getattr(value, "fit", None)) or not (_predicts(value) or hasattr(value, "transform")):
            return False
        if hasattr(value, "__sklearn_is_fitted__"):
            return bool(value.__sklearn_is_fitted__())
        return any(name.endswith("_") and not name.startswith("_") for name in vars(value))
    except Exception:  # any object may raise when its attributes are read
        return False


def _predicts(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return callable(getattr(value, "predict", None)) or (torch is not None and isinstance(value, torch.nn.Module))


def _outermost(models: Mapping[str, Any]) -> dict[str, Any]:
    """Return the models that are no part of another one."""
    inside = {id(part) for model in models.values() for part in _parts(model)}
    return {name: model for name, model in models.items() if id(model) not in inside}


def _parts(model: Any) -> Iterator[Any]:
    """Yield what is inside a model: steps, estimators of an ensemble, the layers of a network."""
    seen = {id(model)}
    waiting = [(model, 0)]
    while waiting:
        holder, depth = waiting.pop()
        for value in _held(holder):
            if id(value) in seen or depth >= _DEEP:
                continue
            seen.add(id(value))
            if isinstance(value, (list, tuple, dict, set)):
                if len(value) <= _LONGEST:
                    waiting.append((value, depth))
            elif hasattr(value, "__dict__") and not isinstance(value, _NO_PART):
                yield value
                waiting.append((value, depth + 1))


def _held(holder: Any) -> list[Any]:
    if isinstance(holder, dict):
        return list(holder.values())
    if isinstance(holder, (list, tuple, set)):
        return list(holder)
    return list(vars(holder).values())

"""Scores that a script computes: the calls are found in its syntax tree, and their values noted while it runs.

Counted are calls at top level, outside of loops (there the last one would stand for all): ``model.score(X, y)``,
functions of ``sklearn.metrics`` that return one number, the mean of ``cross_val_score``, and the variables that Keras's
``loss, acc = model.evaluate(X, y)`` fills. The value of an assignment
is named after its variable, unless that says nothing (``score``); others after what they are.
"""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kaptain_magics.runtime.text_values import shorten

HOOK = "__kaptain_score__"
"""Name under which the script finds what notes its scores."""

_SCALAR = re.compile(r"[a-z0-9_]+_(?:score|loss|error|corrcoef|deviance)|max_error|auc")
_SHORT = {"mean_squared_error": "mse", "root_mean_squared_error": "rmse", "mean_absolute_error": "mae", "auc": "auc"}
_SAYS_NOTHING = frozenset({"score", "scores", "result", "results", "res", "metric", "value", "val", "s", "m", "r"})
_SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val", "dev": "dev"}
_PRINTED = re.compile(r"\s*[A-Za-z_][\w.@/%-]*\s*=\s*")  # how a printed line of metrics begins
_ELSEWHERE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.GeneratorExp)
_REPEATED = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)


@dataclass
class Score:
    """One call that computes a score.

    Attributes:
        source: The variable that gets it, else the call as it is written.
        variable: The variable, empty for none.
        function: What computes it: a function's name, ``score``, or ``cross_val_score``.
        owner: The dotted path of the estimator whose ``score`` it is.
        split: ``train``, ``test`` or ``val`` where the names of the arguments say so.
        scoring: The name of the scorer, where a literal names one.
        whole: Whether the variable gets the call's value as it is.
        names: Several variables that get one value each.
    """

    source: str
    variable: str
    function: str
    owner: str = ""
    split: str = ""
    scoring: str = ""
    whole: bool = True
    names: tuple[str, ...] = ()


class Scores:
    """The scores of one script; its tree is changed so that their values are noted.

    Args:
        tree: The script. Positions stay as they are, and so do its lines in a traceback.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._functions, self._modules, self._cross = _imported(tree)
        self._printed = set(_printed_names(tree))
        self._means: dict[str, str] = {}  # variables that hold the array of cross_val_score, and its scorer
        self._scores: list[Score] = []
        self._values: dict[int, tuple[float, str]] = {}
        self._evaluated: dict[str, tuple[float, str]] = {}
        for statement in tree.body:
            self._take(statement)

    def install(self, namespace: dict[str, Any]) -> None:
        """Put the function that notes values among the script's variables."""
        if self._scores:
            namespace[HOOK] = self._noting(namespace)

    def values(self) -> tuple[dict[str, tuple[float, str]], list[str]]:
        """Return the values by name with where they come from, and the names that several calls claim."""
        named = {index: (self._name(index, value[1]), value[0]) for index, value in self._values.items()}
        alike = [name for name, _ in named.values()]
        for index, (name, value) in named.items():
            split = self._scores[index].split
            if split and alike.count(name) > 1:
                named[index] = (f"{split}_{name}", value)
        count: dict[str, int] = {}
        for name, _ in named.values():
            count[name] = count.get(name, 0) + 1
        clear = {name: (value, self._scores[i].source) for i, (name, value) in named.items() if count[name] == 1}
        clear |= {name: value for name, value in self._evaluated.items() if name not in count}
        return clear, [name for name, times in count.items() if times > 1]

    # ---- the tree --------------------------------------------------------------------------------------------------

    def _take(self, node: ast.AST) -> None:
        """Look for calls in a statement, and put the noting function around them."""
        if isinstance(node, (*_ELSEWHERE, *_REPEATED)):
            return
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Tuple) and (names := _evaluated(target, node.value)):
                if not self._printed & set(names):
                    node.value = self._noted(node.value, Score("", "", "evaluate", names=names))
                return
            several = isinstance(node, ast.Assign) and len(node.targets) > 1
            calls = [call for call in _calls(node.value) if self._score(call) is not None]
            if isinstance(target, ast.Name) and not several and len(calls) == 1:
                score = self._score(calls[0])
                assert score is not None
                if target.id not in self._printed:
                    score.variable = score.source = target.id
                    score.whole = _unwrapped(node.value) is calls[0]
                    node.value = self._noted(node.value, score)
                return
            if isinstance(target, ast.Name) and _called(node.value) in self._cross:
                self._means[target.id] = _scoring(node.value)
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                value[:] = [self._around(item) for item in value]
            elif isinstance(value, ast.AST):
                setattr(node, field, self._around(value))

    def _around(self, node: Any) -> Any:
        if isinstance(node, ast.JoinedStr) and _is_printed_metric(node):
            return node
        if isinstance(node, ast.Call) and (score := self._score(node)) is not None:
            return self._noted(node, score)
        if isinstance(node, ast.AST):
            self._take(node)
        return node

    def _noted(self, value: ast.expr, score: Score) -> ast.expr:
        self._scores.append(score)
        hook = ast.Name(HOOK, ast.Load())
        call = ast.Call(hook, [ast.Constant(len(self._scores) - 1), value], [])
        for node in (call, hook, call.args[0]):
            ast.copy_location(node, value)
        return call

    def _score(self, call: ast.Call) -> Score | None:
        """Return what a call computes; ``None`` where that is no score."""
        source, function = shorten(ast.unparse(call), 60), call.func
        split = _split(call)
        match function:
            case ast.Attribute(value=owner, attr="score") if call.args and (path := _dotted(owner)):
                return Score(source, "", "score", owner=path, split=split)
            case ast.Name(id=name) if name in self._functions and _one_number(call):
                return Score(source, "", self._functions[name], split=split)
            case ast.Attribute(value=owner, attr=name) if _dotted(owner) in self._modules and _SCALAR.fullmatch(name):
                return Score(source, "", name, split=split) if _one_number(call) else None
            case ast.Attribute(value=inner, attr="mean") if self._is_cross(inner):
                return Score(source, "", "cross_val_score", scoring=self._scorer(inner))
            case ast.Attribute(value=ast.Name(), attr="mean") if len(call.args) == 1 and self._is_cross(call.args[0]):
                return Score(source, "", "cross_val_score", scoring=self._scorer(call.args[0]))
        return None

    def _is_cross(self, node: ast.expr) -> bool:
        return _called(node) in self._cross or (isinstance(node, ast.Name) and node.id in self._means)

    def _scorer(self, node: ast.expr) -> str:
        return self._means.get(node.id, "") if isinstance(node, ast.Name) else _scoring(node)

    # ---- values ----------------------------------------------------------------------------------------------------

    def _noting(self, namespace: Mapping[str, Any]) -> Callable[[int, Any], Any]:
        def note(index: int, value: Any) -> Any:
            names = self._scores[index].names
            if names and isinstance(value, (list, tuple)) and len(value) == len(names):
                numbers = zip(names, map(_number, value), strict=True)
                self._evaluated |= {name: (number, name) for name, number in numbers if number is not None}
            number = _number(value)
            if number is not None:
                score = self._scores[index]
                self._values[index] = (number, _kind_of(namespace, score.owner) if score.owner else "")
            return value

        return note

    def _name(self, index: int, kind: str) -> str:
        score = self._scores[index]
        if score.variable and (score.variable.lower() not in _SAYS_NOTHING or not score.whole):
            return score.variable
        if score.function == "score":
            return kind or "score"
        if score.function == "cross_val_score":
            return f"cv_{score.scoring or 'score'}"
        return _SHORT.get(score.function, score.function.removesuffix("_score"))


def _imported(tree: ast.Module) -> tuple[dict[str, str], set[str], set[str]]:
    """Return the metrics by the script's names for them, and the names of ``sklearn.metrics`` and of validation."""
    functions: dict[str, str] = {}
    modules, cross = {"sklearn.metrics"}, {"cross_val_score"}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="sklearn.metrics", names=names):
                functions |= {a.asname or a.name: a.name for a in names if _SCALAR.fullmatch(a.name)}
            case ast.ImportFrom(module="sklearn", names=names):
                modules |= {a.asname or a.name for a in names if a.name == "metrics"}
            case ast.Import(names=names):
                modules |= {a.asname for a in names if a.name == "sklearn.metrics" and a.asname}
    return functions, modules, cross


def _printed_names(tree: ast.Module) -> Iterator[str]:
    """Yield the variables that the script prints as metrics itself, in ``print(f"accuracy={score}")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in ("print", "write", "info"):
            for text in node.args:
                if isinstance(text, ast.JoinedStr) and _is_printed_metric(text):
                    yield from (inner.id for inner in ast.walk(text) if isinstance(inner, ast.Name))


def _is_printed_metric(text: ast.JoinedStr) -> bool:
    first = text.values[0] if len(text.values) > 1 else None
    return isinstance(first, ast.Constant) and _PRINTED.fullmatch(str(first.value)) is not None


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    if isinstance(node, (*_ELSEWHERE, *_REPEATED)):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)


def _evaluated(target: ast.Tuple, value: ast.expr) -> tuple[str, ...]:
    """Return the variables that get what ``model.evaluate`` returns; none where something else is assigned."""
    names = tuple(part.id for part in target.elts if isinstance(part, ast.Name))
    match value:
        case ast.Call(func=ast.Attribute(value=ast.Name(), attr="evaluate")) if len(names) == len(target.elts):
            return names
    return ()


def _unwrapped(node: ast.expr) -> ast.expr:
    """Return what is inside ``float(...)`` and ``round(..., 3)``."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("float", "round"):
        node = node.args[0] if node.args else ast.Constant(None)
    return node


def _called(node: ast.expr) -> str:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
    return ""


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr) if inner := _dotted(value):
            return f"{inner}.{attr}"
    return ""


def _split(call: ast.Call) -> str:
    """Return the part of the data that the names of the arguments speak of, where they speak of one."""
    names = [n.id for a in call.args for n in ast.walk(a) if isinstance(n, ast.Name)]
    parts = {_SPLITS[word] for name in names for word in re.split(r"[_\d]+", name.lower()) if word in _SPLITS}
    return parts.pop() if len(parts) == 1 else ""


def _scoring(node: ast.expr) -> str:
    keywords = {k.arg: k.value for k in node.keywords} if isinstance(node, ast.Call) else {}
    value = keywords.get("scoring")
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _one_number(call: ast.Call) -> bool:
    """Whether a metric is asked for one number, and not for one of each class."""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    average = keywords.get("average", keywords.get("multioutput"))
    return not (isinstance(average, ast.Constant) and average.value in (None, "raw_values"))


def _number(value: Any) -> float | None:
    if isinstance(value, (str, bytes, bool)):
        return None
    try:
        number = float(value)
    except Exception:  # arrays, and whatever else an assignment may hold
        return None
    return number if math.isfinite(number) else None


def _kind_of(namespace: Mapping[str, Any], path: str) -> str:
    """Return what an estimator's ``score`` is: its own scorer's name, ``accuracy`` or ``r2``; empty where unknown."""
    first, *rest = path.split(".")
    owner = namespace.get(first)
    for part in rest:
        owner = getattr(owner, part, None)
    scoring = getattr(owner, "scoring", None)
    if isinstance(scoring, str):
        return scoring
    base = sys.modules.get("sklearn.base")
    if base is None or owner is None or scoring is not None:
        return ""
    try:
        return "accuracy" if base.is_classifier(owner) else "r2" if base.is_regressor(owner) else ""
    except Exception:  # an object of another library with a `score`
        return ""

"""Sees what models are fitted on while a script runs.

The estimators of scikit-learn get a descriptor in the place of ``fit``; a class still shows its own function there
(to ``inspect`` and pickles), and a call costs a few microseconds. XGBoost's and LightGBM's scikit-learn
classes are estimators; for their own ``train`` the data is seen in ``DMatrix`` and ``Dataset``. Nothing here may make a
script fail: what cannot be looked at is not seen, and then the model's inputs are guessed when it is served.
"""

from __future__ import annotations

import functools
import operator
import threading
import types
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from kaptain_magics.runtime.fitted import FittedOn, Sighting

_seen: dict[int, tuple[weakref.ref[Any], Sighting]] = {}  # by the id of what was made of the data: not all have a hash
_last: tuple[Any, Sighting | None] = (lambda: None, None)  # the frame that was looked at last: it is often the same
_inside = threading.local()  # how deep in calls that are looked at: what they call in turn is not


class _Argument(NamedTuple):
    """Where a function has the data.

    Attributes:
        name: The argument's name.
        place: Its place behind the object.
        once: Whether only the first call counts, as in a loop over batches or rounds.
    """

    name: str
    place: int = 0
    once: bool = False


_FIT = {
    "fit": _Argument("X"),
    "fit_transform": _Argument("X"),
    "fit_predict": _Argument("X"),
    "partial_fit": _Argument("X", once=True),
}
LIBRARIES: dict[str, dict[str, dict[str, _Argument]]] = {  # classes by module, "*" with all that derive from them
    "sklearn.base": {"*BaseEstimator": _FIT},
    "xgboost.core": {
        "DMatrix": {"__init__": _Argument("data")},
        "QuantileDMatrix": {"__init__": _Argument("data")},
        "Booster": {"update": _Argument("dtrain", once=True)},
    },
    "lightgbm.basic": {
        "Dataset": {"__init__": _Argument("data")},
        "Booster": {"__init__": _Argument("train_set", 1)},
    },
    "catboost.core": {"Pool": {"__init__": _Argument("data")}, "*CatBoost": _FIT},
}
_CONTAINERS = ("DMatrix", "QuantileDMatrix", "Dataset", "Pool")


def fitted_on(model: object) -> FittedOn | None:
    """Return what a model was fitted on; ``None`` where that was not seen."""
    try:
        owners = list(_seen.values())
        sighting = _sighting(model) or next((seen for owner, seen in owners if _holds(owner(), model)), None)
        return sighting.describe() if sighting is not None else None
    except Exception:  # what the objects of any library raise
        return None


def _holds(owner: object, model: object) -> bool:
    """Whether what was fitted is a search with ``model`` as its best one, or a wrapper of the booster ``model``."""
    return any(getattr(owner, name, None) is model for name in ("best_estimator_", "_Booster"))


def only_fit() -> FittedOn | None:
    """Return what this job's models were fitted on, where all that can predict were fitted on the same data.

    A file that a script wrote itself does not show which object is in it.
    """
    try:
        seen = {id(sighting): sighting for owner, sighting in _seen.values() if hasattr(owner(), "predict")}
        return next(iter(seen.values())).describe() if len(seen) == 1 else None
    except Exception:  # the same
        return None


def describe_rows(data: Any) -> FittedOn | None:
    """Return how rows, such as an example, are written down; ``None`` where they are none of what we know."""
    try:
        return Sighting(data, "example").describe()
    except Exception:  # the same
        return None


# ---- looking ---------------------------------------------------------------------------------------------------


def _sighting(owner: object) -> Sighting | None:
    known = _seen.get(id(owner))
    return known[1] if known is not None and known[0]() is owner else None


def _look(owner: object, data: Any, source: str) -> None:
    global _last
    try:
        known = _sighting(data) if type(data).__name__ in _CONTAINERS else None
        if known is None:
            previous, known = _last
            if known is None or previous() is not data:
                known = Sighting(data, source)
                if known.kind == "frame":
                    _last = (weakref.ref(data), known)
        key = id(owner)
        _seen[key] = weakref.ref(owner, lambda _: _seen.pop(key, None) and None), known
    except Exception:  # the same, and of any frame
        return


class _Observed:
    """Stands in a class for one of its functions, and looks at the data that it gets."""

    def __init__(self, function: types.FunctionType, argument: _Argument) -> None:
        self.__wrapped__ = function
        self.__doc__ = function.__doc__

        @functools.wraps(function)
        def call(instance: Any, *args: Any, **kwargs: Any) -> Any:
            data = args[argument.place] if len(args) > argument.place else kwargs.get(argument.name)
            if data is not None and not (argument.once and _sighting(instance)):
                _look(instance, data, f"{type(instance).__name__}.{function.__name__}")
            if function.__name__ == "__init__":
                return function(instance, *args, **kwargs)
            _inside.depth = getattr(_inside, "depth", 0) + 1
            try:
                return function(instance, *args, **kwargs)
            finally:
                _inside.depth -= 1

        self._call = call

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self.__wrapped__
        return types.MethodType(self.__wrapped__ if getattr(_inside, "depth", 0) else self._call, instance)

    def __reduce__(self) -> Any:
        return operator.getitem, ((self.__wrapped__,), 0)  # who pickles a class by value gets what it had


# ---- libraries -------------------------------------------------------------------------------------------------


def watch(module: types.ModuleType) -> None:
    """Look from now on at what the classes of a library get; a second call does nothing."""
    for name, methods in LIBRARIES[module.__name__].items():
        base = getattr(module, name.removeprefix("*"), None)
        if not isinstance(base, type):
            continue
        for kind in _family(base) if name.startswith("*") else (base,):
            _watch(kind, methods)
        if name.startswith("*"):
            _watch_subclasses(base, methods)


def _family(base: type) -> Iterable[type]:
    seen: set[type] = {base}
    kind: type
    todo = [base]
    while todo:
        for kind in type.__subclasses__(todo.pop()):
            if kind not in seen:
                seen.add(kind)
                todo.append(kind)
    return seen


def _watch(kind: type, methods: dict[str, _Argument]) -> None:
    for name, argument in methods.items():
        function = vars(kind).get(name)
        if isinstance(function, types.FunctionType) and not getattr(function, "__isabstractmethod__", False):
            try:
                setattr(kind, name, _Observed(function, argument))
            except (AttributeError, TypeError):  # a class that forbids it
                return


def _watch_subclasses(base: Any, methods: dict[str, _Argument]) -> None:
    own = vars(base).get("__init_subclass__")
    if getattr(own, "__func__", None) is not None and own.__func__.__module__ == __name__:
        return

    def prepare(kind: Any, /, **kwargs: Any) -> None:
        if own is not None:
            own.__get__(None, kind)(**kwargs)
        else:
            super(base, kind).__init_subclass__(**kwargs)
        _watch(kind, methods)

    base.__init_subclass__ = classmethod(prepare)

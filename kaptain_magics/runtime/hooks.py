"""What libraries learn when a script imports them: to show figures in the run's view, what they fit models on.

Nothing is imported for it. For a library that a warm worker has imported already, the hook runs when the job begins.
"""

from __future__ import annotations

import builtins
import importlib.abc
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from kaptain_magics.runtime import observe

BACKEND = "module://kaptain_magics.runtime.figures"


def install() -> None:
    """Tell the libraries of this job, now and when they are imported; scripts find ``display`` as cells do."""
    builtins.display = _display  # type: ignore[attr-defined]
    for name, hook in _HOOKS.items():
        if name in sys.modules:
            hook(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _display(*values: Any, **options: Any) -> Any:
    from kaptain_magics.runtime.display import display

    return display(*values, **options)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds what the other finders find, and has a hook called when it is loaded."""

    def __init__(self) -> None:
        self._waiting = set(_HOOKS)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._waiting:
            return None
        self._waiting.discard(fullname)
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is None:
                continue
            loader: Any = spec.loader
            load: Any = getattr(loader, "exec_module", None)
            if load is not None:

                def load_and_tell(module: ModuleType, load: Any = load, hook: Any = _HOOKS[fullname]) -> None:
                    load(module)
                    hook(module)

                loader.exec_module = load_and_tell
            return spec
        return None


def _tell_matplotlib(module: Any) -> None:
    if os.environ.get("MPLBACKEND", "agg").lower() == "agg":  # another one was asked for with --env
        module.rcParams["backend"] = BACKEND


def _tell_ipython(module: Any) -> None:
    from kaptain_magics.runtime import display

    ours = {name: getattr(display, name) for name in ("display", "update_display", "clear_output", "DisplayHandle")}
    for place in (module, *filter(None, map(sys.modules.get, ("IPython.display", "IPython.core.display")))):
        for name, value in ours.items():
            if hasattr(place, name):
                setattr(place, name, value)


def _tell_plotly(module: Any) -> None:
    """Make ``fig.show()`` show the figure in the run's view: a job has no browser to open."""

    def show(fig: Any, *_: Any, **__: Any) -> None:
        from kaptain_magics.runtime.display import show_form
        from kaptain_magics.runtime.mime import plotly_form

        show_form(plotly_form(fig))

    module.show = show


def _tell_pillow(module: Any) -> None:
    """Make ``image.show()`` show the image in the run's view: a job has no screen."""

    class Viewer(module.Viewer):  # type: ignore[misc]
        def show(self, image: Any, **_options: Any) -> int:
            _display(image)
            return 1

    module.register(Viewer(), 0)


def _tell_mlflow(module: Any) -> None:
    from kaptain_magics.runtime.mlflow_join import join

    join(module)


_HOOKS: dict[str, Callable[[Any], None]] = {
    "matplotlib": _tell_matplotlib,
    "IPython.core.display_functions": _tell_ipython,
    "plotly.io": _tell_plotly,
    "PIL.ImageShow": _tell_pillow,
    "mlflow": _tell_mlflow,
    **dict.fromkeys(observe.LIBRARIES, observe.watch),
}

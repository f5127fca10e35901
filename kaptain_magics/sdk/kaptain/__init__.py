"""The Kaptain SDK: train, tune and deploy a model from a notebook.

Inside a job only its ``platform`` half and the functions below are there; everything is imported when it is used.
"""

from importlib import import_module
from typing import Any

try:
    from kaptain_magics.core.sdk import check_sdk
except ImportError:  # inside a job on another machine, where only the runtime is
    pass
else:
    check_sdk()

_NAMES = {
    "save_model": "kaptain_magics.runtime.savers",
    "log_metrics": "kaptain_magics.runtime.channel",
}
_PARTS = ("config", "envs", "exceptions", "hyperparameter", "model", "platform", "utils")
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'kaptain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_NAMES, *_PARTS]

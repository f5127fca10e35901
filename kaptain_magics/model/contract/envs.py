"""Switches of the contract, as module attributes that may be set at any time: ``envs.VERBOSE = True``."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from kaptain_magics.runtime.text_values import is_true


def _flag(name: str) -> bool:
    return is_true(os.environ.get(name, ""))


def _seconds(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else None


VERBOSE = _flag("KAPTAIN_SDK_VERBOSE")  # show the jobs' own logs
DEBUG = _flag("KAPTAIN_SDK_DEBUG")  # show tracebacks
LOG_TIMEFORMAT = os.environ.get("KAPTAIN_SDK_LOG_TIMEFORMAT", "%Y-%m-%d %H:%M:%S,%f")  # %f in milliseconds
DOCKER_BUILDER_CPU_LIMIT = os.environ.get("DOCKER_BUILDER_CPU_LIMIT", "1")
DOCKER_BUILDER_MEM_LIMIT = os.environ.get("DOCKER_BUILDER_MEM_LIMIT", "1G")
DOCKER_BUILDER_CPU_REQUEST = os.environ.get("DOCKER_BUILDER_CPU_REQUEST", "500m")
DOCKER_BUILDER_MEM_REQUEST = os.environ.get("DOCKER_BUILDER_MEM_REQUEST", "500M")
KAPTAIN_SDK_DELETE_EXPERIMENT = _flag("KAPTAIN_SDK_DELETE_EXPERIMENT")
KAPTAIN_SDK_TTL_SECONDS_AFTER_FINISHED = _seconds("KAPTAIN_SDK_TTL_SECONDS_AFTER_FINISHED")
KAPTAIN_SDK_FORCE_CLEANUP = _flag("KAPTAIN_SDK_FORCE_CLEANUP")

_SHORT = ("DELETE_EXPERIMENT", "TTL_SECONDS_AFTER_FINISHED", "FORCE_CLEANUP")


class _Switches(ModuleType):
    """This module, in which three switches have a short name besides."""

    def __getattr__(self, name: str) -> Any:
        if name in _SHORT:
            return getattr(self, f"KAPTAIN_SDK_{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(f"KAPTAIN_SDK_{name}" if name in _SHORT else name, value)


sys.modules[__name__].__class__ = _Switches

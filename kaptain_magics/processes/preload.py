"""What a worker imports before it forks, and whether it may fork after that.

A fork copies one thread only. A lock that another one held at that moment stays locked in the copy for ever, so a
worker in which an import has started a thread forks nothing: its jobs start as fresh processes. Numerical libraries are
held to one thread, and nothing is computed but what ``_ONCE`` names: a pool of threads would not be in the fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import itertools
import os
import sys
import threading
import time
from typing import Any

from kaptain_magics.processes import forked
from kaptain_magics.processes.background import give_way

_ALWAYS = (  # what every job runs, and what many scripts import
    "import kaptain_magics.runtime.launch",
    "import kaptain_magics.runtime.channel",
    "import argparse",
    "import logging",
    "import random",
    "import subprocess",
)
_THREAD_ENDS = 0.05  # seconds for the thread of the imports to be gone where it has ended
_ONCE = {  # what a library computes at its first call and keeps: cheap, public, without threads
    "sklearn.utils": "sys.modules['sklearn.utils'].check_array([[0.0]])",  # looks through all installed packages
}


def preload(statements: list[str], niceness: int = 0) -> str:
    """Execute import statements of installed modules.

    Args:
        statements: What is imported.
        niceness: How much it gives way to other processes; the forks do not have it.

    Returns:
        Why a fork would not be safe; empty when it is.
    """
    give_way(lambda: _import(statements), niceness)
    gc.collect()
    gc.freeze()  # a collection in a fork would otherwise touch, and so copy, every page of what was imported
    if threading.active_count() > 1:
        return "an imported module started a thread"
    until = time.monotonic() + _THREAD_ENDS
    with contextlib.suppress(OSError):
        while len(os.listdir("/proc/self/task")) > 1:
            if time.monotonic() > until:
                return "an imported library started a thread"
            time.sleep(0.001)
    return ""


def _import(statements: list[str]) -> None:
    scratch: dict[str, Any] = {"__name__": "kaptain_preload", "sys": sys}
    once = (call for module, call in _ONCE.items() if module in sys.modules)
    for statement in itertools.chain(filter(_installed, [*statements, *_ALWAYS]), once):
        # the script will meet the same failure itself, and say so in its own log
        with contextlib.suppress(BaseException):
            exec(compile(statement, "<preload>", "exec"), scratch)
    scratch.clear()
    forked.find_pools()


def _installed(statement: str) -> bool:
    """Whether a statement imports an installed module: one beside the script may be another one tomorrow."""
    root = statement.split()[1].partition(".")[0]
    if root in sys.stdlib_module_names:
        return root not in ("antigravity", "this")
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(root)
        origins = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec is not None else []
        return root in ("kaptain", "kaptain_magics") or any(f"-packages{os.sep}" in origin for origin in origins)
    return False

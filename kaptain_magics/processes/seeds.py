"""Seeds: warm workers that run no jobs, and fork further workers that need what they have imported.

A worker has exactly what its scripts import at the top, so a script with another import needs another worker. One that
is forked from a seed imports only what the seed has not. That a seed has more than the script asks for must not matter:
it may have more of ``_NEUTRAL``, which only define things, and of nothing else.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaptain_magics.errors import TargetError
from kaptain_magics.processes.protocol import Cancelled, connect, exchange

_NEUTRAL = frozenset({"joblib", "numpy", "pandas", "scipy", "sklearn"})
_NAMED = frozenset({  # imported only for scripts that name them: they read the environment, or choose a backend
    "catboost", "imblearn", "keras", "lightgbm", "matplotlib", "seaborn", "skops", "statsmodels", "tensorflow", "torch",
    "torchvision", "transformers", "xgboost",
})  # fmt: skip
_BRINGS = {"seaborn": "matplotlib", "torchvision": "torch"}
_ANSWER = 1.0  # seconds for a seed to fork; it does nothing else


def seed_statements(modules: Sequence[str], named: bool) -> list[str]:
    """Return what a seed imports of these modules, in an order that does not depend on theirs.

    Args:
        modules: Names such as ``sklearn.svm``; those of other libraries, and what is private or deep, are left out.
        named: Whether libraries that not every script may have are among them.
    """
    libraries = _NEUTRAL | _NAMED if named else _NEUTRAL
    names = {m for m in modules if root_of(m) in libraries and m.count(".") < 2 and "._" not in m and "test" not in m}
    return [f"import {name}" for name in sorted(names | {root_of(name) for name in names})]


def grow(path: Path, options: Mapping[str, Any], cancelled: Cancelled) -> bool:
    """Have a seed fork a worker; returns whether one did, and the worker listens.

    Args:
        path: The worker's socket: workers of the same Python, environment and limits have the same beginning.
        options: The worker's options; see ``zygote``.
        cancelled: Asked now and then whether the worker is not wanted any more.
    """
    until = time.monotonic() + _ANSWER
    for seed in _fitting(path, {statement.split()[1] for statement in options["preload"]}):
        connection = connect(seed)
        if connection is not None:
            with connection, contextlib.suppress(OSError, ValueError, TargetError):
                answer = exchange(
                    connection, {"do": "grow", "options": dict(options)}, (),
                    lambda: cancelled() or time.monotonic() > until,
                )  # fmt: skip
                if answer.get("pid"):
                    return True
    return False


def _fitting(path: Path, modules: set[str]) -> list[Path]:
    """Return the seeds that a worker with these imports may be forked from, the one with most first."""
    roots = {root_of(module) for module in modules}
    allowed = roots | _NEUTRAL | {_BRINGS.get(root, root) for root in roots}
    seeds = []
    for record in path.parent.glob(f"{path.name.partition('-')[0]}-*.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            imported = json.loads(record.read_bytes()).get("seed") or ()
            of_seed = {root_of(module) for module in imported}
            if of_seed & roots and of_seed <= allowed and record.with_suffix("") != path:
                seeds.append((len(imported), record.with_suffix("")))
    return [seed for _, seed in sorted(seeds, reverse=True)]


def root_of(module: str) -> str:
    """Return the top-level package of a module."""
    return module.partition(".")[0]

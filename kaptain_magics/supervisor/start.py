"""Starts a run's supervisor from a kernel: forked from a warm worker that has imported it, else a fresh process."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kaptain_magics.state import RunFolder
from kaptain_magics.targets.local import processes
from kaptain_magics.tracking.ending import is_tracked

_MAIN = "kaptain_magics.supervisor.main"
_NOW = ("import kaptain_magics.supervisor.main", "import kaptain_magics.targets.local")
_LATER = ("import optuna", "import kaptain_magics.supervisor.tune", "import kaptain_magics.supervisor.deploy")
_TRACKING = (
    "from kaptain_magics.tracking.mlflow import load; load()",
    "import mlflow.store.tracking.sqlalchemy_store",
)


def start(folder: RunFolder, secrets: Mapping[str, str], warm: bool = True) -> None:
    """Start the supervisor of a run that was just created; returns at once.

    Args:
        folder: The run.
        secrets: Environment variables with credentials that were given to this process alone.
        warm: Whether to fork from a warm worker.

    Raises:
        TargetError: No process can be started.
    """
    env = {**os.environ, **secrets}
    request = {
        "plan": {"module": _MAIN, "argv": [str(folder.path)]},
        "env": env,
        "cwd": str(folder.path),
        "detached": True,
        "threads": 1,
    }
    output = os.open(folder.path / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        later = (*_LATER, *_TRACKING) if is_tracked(folder) else _LATER
        worker = processes.WarmWorker(_NOW, _stable(env), later=later) if warm else None
        processes.start(request, output, warm=worker).leave()
    finally:
        os.close(output)


def _stable(env: Mapping[str, str]) -> dict[str, str]:
    """What the supervisor's own imports can depend on, so that kernels share one worker."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    return {name: env[name] for name in kept if name in env}

"""Starts a run's supervisor from a kernel: forked from a warm worker that has imported it, else a fresh process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from kaptain_magics.core.events import Noted
from kaptain_magics.errors import StateError
from kaptain_magics.files import disk_error
from kaptain_magics.processes.start_process import start_process
from kaptain_magics.processes.warm_worker import WarmWorker
from kaptain_magics.state import RunFolder
from kaptain_magics.tracking.ending import is_tracked

_MAIN = "kaptain_magics.supervisor.main"
_NOW = ("import kaptain_magics.supervisor.main", "import kaptain_magics.targets.local")
_LATER = (
    "import optuna",
    "import kaptain_magics.supervisor.study_run",
    "import kaptain_magics.supervisor.deployment_run",
)
_TRACKING = (
    "from kaptain_magics.tracking.mlflow_runs import load; load()",
    "import mlflow.store.tracking.sqlalchemy_store",
)


def start(folder: RunFolder, secrets: Mapping[str, str], warm: bool = True) -> None:
    """Start the supervisor of a run; returns at once.

    The run's lock is handed over: it is held at every moment, however long the start takes.

    Args:
        folder: The run, its lock held; it is not held by this process any more afterwards.
        secrets: Environment variables with credentials that were given to this process alone.
        warm: Whether to fork from a warm worker.

    Raises:
        TargetError: No process can be started.
        StateError: The disk is full or the folder is gone.
    """
    env = {**os.environ, **secrets}
    env.pop("KAPTAIN_JOB", None)  # where a job starts another run: that one outlives it
    request = {
        "program": {"module": _MAIN, "argv": [str(folder.path)]},
        "env": env,
        "cwd": str(folder.path),
        "detached": True,
    }
    log = folder.path / "supervisor.log"
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise disk_error(error, log) from error
    try:
        worker = worker_of_supervisors(env, is_tracked(folder)) if warm else None
        if worker is not None:
            worker.start()
            _write_notes(folder, worker.take_notes())
        start_process(request, output, warm=worker, lock=folder.lock.descriptor).leave()
    finally:
        os.close(output)
        folder.lock.release()


def worker_of_supervisors(env: Mapping[str, str], tracked: bool, owner: int = 0) -> WarmWorker:
    """Return the warm worker that supervisors are forked from; it need not run.

    Args:
        env: The environment of the supervisor.
        tracked: Whether runs are logged in MLflow.
        owner: The kernel that it is started for ahead of any run.
    """
    later = (*_LATER, *_TRACKING) if tracked else _LATER
    return WarmWorker(_NOW, _stable(env), later=later, owner=owner)


def _write_notes(folder: RunFolder, notes: list[str]) -> None:
    """Write notes for the user about the start, while the run's lock is held here."""
    if notes and not folder.last_state().state.terminal:
        written = RunFolder(folder.path)  # it numbers events from now; ``folder`` counts again when it writes
        with contextlib.suppress(StateError):  # the supervisor says it when the disk is full
            for text in notes:
                written.append(Noted(text=text))


def _stable(env: Mapping[str, str]) -> dict[str, str]:
    """What the supervisor's own imports can depend on, so that kernels share one worker."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    return {name: env[name] for name in kept if name in env}

"""A run's tracker follows its events in a thread while the run goes on, and is done before the supervisor ends."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from kaptain_magics.core.events import AnyEvent, ArtifactSaved
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import KaptainError, StateError
from kaptain_magics.supervisor.run_context import RunContext

_TICK = 1.0  # seconds between two looks at a run that goes on
_HEAD_START = 2.0  # seconds after which a run is worth MLflow's import while it goes on: that takes as long
_LARGEST_MODEL = 1 << 30  # bytes of a model that is copied to MLflow; of a larger one the tag says where it is
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Tracker:
    """Logs one run.

    A script that uses MLflow itself finds this run there and logs into it (``runtime/mlflow_join.py``): its job gets
    the tracking URI, and the run is made at once. Else MLflow is imported when the run has gone on for a while.

    Args:
        context: The run.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._folder = context.folder
        self._uri = context.settings.whole_tracking_uri()
        self._joined = uses_mlflow(context)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)

    def start(self) -> None:
        """Say where MLflow is missing, tell the jobs of this machine where it is, and begin to follow."""
        from kaptain_magics.tracking.mlflow_runs import QUIET, missing

        warning = missing()
        if warning is not None:
            with contextlib.suppress(StateError):
                self._context.emit(warning)
        for name, text in QUIET.items():  # now: jobs inherit them, and so does what their warm workers are known by
            os.environ.setdefault(name, text)
        if self._joined and warning is None:
            os.environ |= {"MLFLOW_TRACKING_URI": self._uri, "KAPTAIN_TRACKED": "1"}
            os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", self._context.record.model_id)
        self._thread.start()

    def finish(self) -> None:
        """Wait until all is logged: the run's last event is written."""
        self._ended.set()
        self._thread.join()

    def _events(self) -> Iterator[AnyEvent | None]:
        silent = 0
        for event in self._folder.follow(tick=_TICK):
            yield event
            silent = silent + 1 if event is None and self._ended.is_set() else 0
            if silent > 1:  # the last state could not be written
                return

    def _work(self) -> None:
        from kaptain_magics.tracking.ending import note
        from kaptain_magics.tracking.mlflow_runs import track

        if not self._joined:
            self._ended.wait(_HEAD_START)
        try:
            warning = track(self._folder.record, self._events(), self._uri, self._folder.path, self._fetch)
        except Exception:  # tracking must never change how a run ends
            traceback.print_exc()
        else:
            if warning is not None:
                sys.stderr.write(f"{warning.text}\n{warning.hint}\n")
                with contextlib.suppress(StateError):
                    note(self._folder, warning)

    def _fetch(self, saved: ArtifactSaved, folder: Path) -> bool:
        """Bring a saved model into a folder; returns whether it is small enough to be logged."""
        if saved.size > _LARGEST_MODEL:
            return False
        with contextlib.suppress(KaptainError):  # it was deleted meanwhile
            self._context.store.get(saved.uri, folder)
            return True
        return False


def uses_mlflow(context: RunContext) -> bool:
    """Whether the run's script uses MLflow itself."""
    job = context.record.job or (context.record.study.job if context.record.study is not None else None)
    return job is not None and "mlflow" in job.script.source


def with_tracker(job: JobSpec) -> JobSpec:
    """Return a job that finds the tracker from another machine too, where it is a server that can be reached there."""
    parts = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if "KAPTAIN_TRACKED" not in os.environ or parts.scheme not in ("http", "https") or parts.hostname in _LOOPBACK:
        return job
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KAPTAIN_TRACKED")
    logins = tuple(n for n in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD") if n in os.environ)
    new = tuple(name for name in (*names, *logins) if name not in (*job.env, *job.env_names))
    return msgspec.structs.replace(job, env_names=(*job.env_names, *new))

"""A script that uses MLflow itself logs into the run that its supervisor has there, not into one beside it.

What opens a run without naming one (``with mlflow.start_run():``, ``autolog``) opens that run, as often as it is asked.
A script that sets another tracking URI or experiment keeps its own runs there. A trial has no run yet: it makes one
below the study's, and the supervisor, which knows it by its tags, logs into it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_PATIENCE = 30.0  # seconds for the supervisor to make a database or the run; importing MLflow takes it some five


def join(mlflow: Any) -> None:
    """Have ``mlflow.start_run`` open the supervisor's run.

    Args:
        mlflow: The module, just imported.
    """
    if not os.environ.get("KAPTAIN_TRACKED") or "MLFLOW_RUN_ID" in os.environ:
        return
    _await_database()
    start, uri = mlflow.start_run, os.environ.get("MLFLOW_TRACKING_URI", "")
    ours: list[str] = []

    def start_run(run_id: str | None = None, *arguments: Any, **options: Any) -> Any:
        named = run_id is not None or options.get("nested") or options.get("experiment_id") is not None or arguments
        if not named and mlflow.active_run() is None and mlflow.get_tracking_uri() == uri:
            ours.extend([] if ours else filter(None, [_find(mlflow)]))
            if ours:
                try:
                    return start(ours[0], **options)
                except mlflow.MlflowException:  # the script has set another experiment
                    pass
        return start(run_id, *arguments, **options)

    mlflow.start_run = start_run


def _await_database() -> None:
    """Wait for a new SQLite database, which the supervisor makes whole: two makers would break each other."""
    parts = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if parts.scheme.startswith("sqlite"):
        path, until = Path(parts.path.removeprefix("/")), time.monotonic() + _PATIENCE
        while path.is_absolute() and not path.exists() and time.monotonic() < until:
            time.sleep(0.05)


def _find(mlflow: Any) -> str:
    """Return the id of the run that this job belongs to; of a trial, of one made for it. Empty where there is none."""
    client, trial = mlflow.MlflowClient(), os.environ.get("KAPTAIN_TRIAL", "")
    query = f"tags.`kaptain.run_id` = '{os.environ.get('KAPTAIN_RUN_ID', '')}'"
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", ""))
        runs = client.search_runs([experiment.experiment_id], query) if experiment is not None else []
        if runs and trial:
            job = f"{os.environ.get('KAPTAIN_RUN_ID', '')}/{trial}"
            known = client.search_runs([experiment.experiment_id], f"tags.`kaptain.job` = '{job}'")
            tags = {"mlflow.parentRunId": runs[0].info.run_id, "kaptain.job": job}
            run = known[0] if known else client.create_run(experiment.experiment_id, tags=tags)  # known: it was lost
            return str(run.info.run_id)
        if runs:
            return str(runs[0].info.run_id)
        time.sleep(0.1)
    return ""

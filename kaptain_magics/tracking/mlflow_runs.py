"""MLflow: a run as a run there, a study's trials as runs nested in it.

The events are the only source, so a run can be logged while it goes on or long after. Nothing here ever changes how a
run ends: what cannot be logged becomes one warning.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import AnyEvent, ArtifactSaved, MetricReported, Noted, StateChanged, TrialChanged
from kaptain_magics.core.secrets import scrubbed, without_login
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.files import locked
from kaptain_magics.tracking.database import artifact_root, create_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from kaptain_magics.state import RunRecord

_AT_ONCE = 500  # metrics in one call; MLflow takes 1000 entities
_LONGEST_PARAMETER = 6000  # characters of a value that every store of MLflow takes
_UNFIT = re.compile(r"[^\w.\-: /]")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
_ENDS = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.STOPPED: "KILLED",
    TrialState.SUCCEEDED: "FINISHED",
    TrialState.EARLY_STOPPED: "FINISHED",
    TrialState.FAILED: "FAILED",
    TrialState.KILLED: "KILLED",
}


def missing() -> Noted | None:
    """Return the warning for a tracking URI without MLflow to use it; looks for MLflow without importing it."""
    if importlib.util.find_spec("mlflow") is not None:
        return None
    return Noted(
        text="a tracking URI is set, but MLflow is not installed: this run is not tracked",
        warning=True,
        hint="pip install 'kaptain-magics[mlflow]', or clear KAPTAIN_TRACKING_URI and MLFLOW_TRACKING_URI",
    )


def load() -> None:
    """Import MLflow in its quiet form; that takes seconds."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow's libraries think of each other
        importlib.import_module("mlflow")
        importlib.import_module("mlflow.tracking")


def track(
    record: RunRecord,
    events: Iterable[AnyEvent | None],
    tracking_uri: str,
    folder: Path | None = None,
    fetch: Callable[[ArtifactSaved, Path], bool] | None = None,
) -> Noted | None:
    """Log a run to MLflow.

    Args:
        record: What was asked.
        events: The run's events from the first one, ``None`` now and then; ends with the run, or earlier.
        tracking_uri: Of MLflow: a server, ``sqlite:///...`` or a directory.
        folder: The run's folder, whose figures are logged at the end.
        fetch: Brings a saved model into a folder and returns whether that is to be logged.

    Returns:
        A warning where MLflow is missing or could not log everything; never an error.
    """
    absent = missing()
    if absent is not None:
        return absent
    try:
        load()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient

            with _one_at_a_time(tracking_uri, record.settings.get("home", "")):
                create_database(tracking_uri)
                logger = _RunLogger(MlflowClient(tracking_uri), record, artifact_root(tracking_uri), folder, fetch)
            for event in events:
                if event is None:
                    logger.flush()
                else:
                    logger.take(event)
            logger.flush()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Noted(
            text=f"MLflow at {without_login(tracking_uri)} could not log run {record.run_id}: "
            f"{scrubbed(lines[0], tracking_uri)}",
            warning=True,
            hint="check the tracking URI; the run itself is not affected",
        )
    return None


@contextmanager
def _one_at_a_time(tracking_uri: str, home: str) -> Iterator[None]:
    """Hold a lock while a database, its tables and the experiment may have to be made; a server does that itself."""
    if not home or tracking_uri.startswith(("http:", "https:")):
        yield
        return
    with locked(Path(home) / "mlflow.lock", timeout=60.0):
        yield


class _RunLogger:
    """Logs one run and its trials to MLflow, event by event."""

    def __init__(
        self,
        client: MlflowClient,
        record: RunRecord,
        root: str,
        folder: Path | None,
        fetch: Callable[[ArtifactSaved, Path], bool] | None,
    ) -> None:
        self._client, self._record, self._folder, self._fetch = client, record, folder, fetch
        self._experiment = _experiment(client, os.environ.get("MLFLOW_EXPERIMENT_NAME") or record.model_id, root)
        tags = {
            "mlflow.source.type": "JOB",
            "mlflow.source.name": self._script,
            "mlflow.note.content": record.model_info.get("description", ""),
            "version": record.model_info.get("version", ""),
            "kaptain.run_id": record.run_id,
            "kaptain.model_id": record.model_id,
            "kaptain.kind": record.kind.value,
            "kaptain.target": record.target,
            "kaptain.name": record.name,
        }
        if record.study is not None:
            tags |= {f"kaptain.objective.{_UNFIT.sub('_', o.name)}": str(o.direction) for o in record.study.directed}
        self._run = self._begin(record.model_info.get("name") or record.name, record.created, tags)
        self._metrics: list[Any] = []
        self._steps: dict[str, int] = {}
        self._children: dict[int, str] = {}
        self._best: TrialChanged | None = None
        self._saved: ArtifactSaved | None = None
        self._joined = "mlflow" in self._job.script.source if self._job is not None else False
        if not self._joined:  # else what the script logs itself comes first
            self._put(self._run, parameters=self._parameters)

    @property
    def _job(self) -> JobSpec | None:
        return self._record.job or (self._record.study.job if self._record.study is not None else None)

    @property
    def _script(self) -> str:
        return self._job.script.name if self._job is not None else ""

    @property
    def _parameters(self) -> Mapping[str, Value]:
        return self._record.job.parameters if self._record.job is not None else {}

    def take(self, event: AnyEvent) -> None:
        """Log one event; facts may come twice."""
        match event:
            case MetricReported():
                self._measure(event)
            case TrialChanged() if event.state.terminal:
                self._trial(event)
            case ArtifactSaved():
                self._client.set_tag(self._run, "kaptain.model_uri", event.uri)
                self._saved = event
            case StateChanged() if event.state.terminal:
                self.flush()
                if self._best is not None or self._joined:
                    self._put(self._run, parameters=self._best.parameters if self._best else self._parameters)
                self._log_files(event.state)
                self._end(self._run, event.state, event.reason, event.time)

    def flush(self) -> None:
        """Send the metrics that wait to be sent."""
        if self._metrics:
            self._client.log_batch(self._run, metrics=self._metrics)
            self._metrics = []

    def _log_files(self, state: RunState) -> None:
        """Log what the script has shown, and the model that it saved."""
        figures = self._folder / "displays" if self._folder is not None else None
        if figures is not None and figures.is_dir():
            self._client.log_artifacts(self._run, str(figures), "figures")
        if self._fetch is None or self._saved is None or state is not RunState.SUCCEEDED:
            return
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            if self._fetch(self._saved, model):
                self._client.log_artifacts(self._run, str(model), "kaptain-model" if self._joined else "model")

    def _measure(self, event: MetricReported) -> None:
        step = self._steps.get(event.name, -1) + 1 if event.step is None else event.step
        self._steps[event.name] = step
        self._add(event.name, event.value, event.time, step)

    def _add(self, name: str, value: float, when: float, step: int) -> None:
        self._metrics.append(_metric(name, value, when, step))
        if len(self._metrics) >= _AT_ONCE:
            self.flush()

    def _trial(self, trial: TrialChanged) -> None:
        child = self._children.get(trial.number)
        if child is not None:  # reported again: its model has moved
            self._client.set_tag(child, "kaptain.model_uri", trial.artifact_uri)
            return
        tags = {
            "mlflow.parentRunId": self._run,
            "mlflow.source.type": "JOB",
            "mlflow.source.name": self._script,
            "kaptain.trial": str(trial.number),
            "kaptain.state": trial.state.value,
            "kaptain.model_uri": trial.artifact_uri,
        }
        child = self._joined_child(trial, tags) or self._begin(trial.name, trial.started, tags)
        self._children[trial.number] = child
        metrics = []
        for name, summary in trial.metrics.items():
            metrics.append(_metric(name, summary.latest, trial.ended))
            if summary.min != summary.max:
                metrics.append(_metric(f"{name}.min", summary.min, trial.ended))
                metrics.append(_metric(f"{name}.max", summary.max, trial.ended))
        self._put(child, parameters=trial.parameters, metrics=metrics)
        self._end(child, trial.state, trial.reason, trial.ended)
        if trial.best:
            self._best = trial
            for name, summary in trial.metrics.items():
                self._add(name, summary.latest, trial.ended, trial.number)

    def _joined_child(self, trial: TrialChanged, tags: Mapping[str, str]) -> str:
        """Return the run that the trial's own script has made, now with our name and tags; empty where it has none."""
        if not self._joined:
            return ""
        query = f"tags.`kaptain.job` = '{self._record.run_id}/{trial.number}'"
        runs = self._client.search_runs([self._experiment], query, max_results=1)
        if not runs:
            return ""
        child = str(runs[0].info.run_id)
        self._client.update_run(child, name=trial.name)
        for name, text in tags.items():
            if text:
                self._client.set_tag(child, name, text)
        return child

    def _begin(self, name: str, started: float, tags: Mapping[str, str]) -> str:
        stated_tags = {key: text for key, text in tags.items() if text}
        run = self._client.create_run(self._experiment, _milliseconds(started), stated_tags, run_name=name)
        return str(run.info.run_id)

    def _put(self, run: str, *, parameters: Mapping[str, Value], metrics: Iterable[Any] = ()) -> None:
        from mlflow.entities import Param

        clean = {_UNFIT.sub("_", name.lstrip("-")): str(value) for name, value in parameters.items()}
        if self._joined and clean:  # MLflow refuses another value for a parameter that the script has logged
            known = self._client.get_run(run).data.params
            clean = {name: text for name, text in clean.items() if name not in known}
        params = [Param(name, value[:_LONGEST_PARAMETER]) for name, value in clean.items() if name]
        for start in range(0, len(params), 100):
            self._client.log_batch(run, params=params[start : start + 100])
        metrics = list(metrics)
        if metrics:
            self._client.log_batch(run, metrics=metrics)

    def _end(self, run: str, state: RunState | TrialState, reason: str, when: float) -> None:
        if reason:
            self._client.set_tag(run, "kaptain.reason", reason)
        self._client.set_terminated(run, _ENDS[state], _milliseconds(when))


def _experiment(client: MlflowClient, name: str, root: str) -> str:
    """Return the id of the experiment of that name, which another process may create at this moment."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            place = f"{root}/{_UNFIT.sub('_', name).replace('/', '-')}" if root else None
            return str(client.create_experiment(name, place))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _metric(name: str, value: float, when: float, step: int = 0) -> Any:
    from mlflow.entities import Metric

    return Metric(_UNFIT.sub("_", name), value, _milliseconds(when), step)


def _milliseconds(seconds: float) -> int:
    return int((seconds or time.time()) * 1000)

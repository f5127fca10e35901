"""Runs with a story: real run folders whose events are written by hand, and a small class that follows them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

from kaptain_magics.core.domains import Categorical, Double
from kaptain_magics.core.events import (
    AnyEvent,
    ArtifactSaved,
    EndpointChanged,
    Event,
    LogWritten,
    MetricReported,
    MetricSummary,
    Noted,
    StateChanged,
    TrialChanged,
)
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_run_id
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import Direction, EndpointState, RunKind, RunState, TrialState
from kaptain_magics.state import RunFolder, RunRecord, RunStore

BEGIN = 1639160971.544  # 2021-12-10 19:29:31,544 in the tutorial's time zone
MODEL_URI = "s3://kaptain/models/dev/mnist/trained/fc6f2d4e16fd4b2cbd5d85e49d5b0b55"
REVISION = "b7d7f70cee7b4918ba5a71d9784deff4"
URL = "http://127.0.0.1:41231/v2/models/dev-mnist/infer"


class Run:
    """The least that the views need of a run."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.record = folder.record
        self.run_id = folder.run_id
        self.name = self.record.name
        self.model_id = self.record.model_id
        self.kind = self.record.kind
        self.target = self.record.target

    def follow(self, after: int = 0, tick: float | None = None) -> Iterator[AnyEvent | None]:
        return self.folder.follow(after, tick)

    def path_of(self, file: str) -> Path:
        return self.folder.path / file

    def tell(self, *events: Event) -> Run:
        for event in events:
            self.folder.append(event)
        return self


def _create(home: Path, kind: RunKind, name: str, **spec: object) -> Run:
    record = RunRecord(
        run_id=new_run_id(), kind=kind, name=name, model_id="dev/mnist", target="local", created=BEGIN, **spec
    )
    run = Run(RunStore(home).create(record))
    assert run.folder.lock.acquire()  # we are its supervisor: no other process may settle it
    return run


def _job(run_id: str = "r") -> JobSpec:
    return JobSpec(
        name="mnist-job-17921389",
        run_id=run_id,
        model_id="dev/mnist",
        script=Script(name="training.py", source="pass"),
        framework=ModelFramework.SKLEARN,
    )


def training(home: Path) -> Run:
    return _create(home, RunKind.TRAIN, "mnist-job-17921389", job=_job())


def study(
    home: Path,
    trials: int = 12,
    direction: Direction = Direction.MAXIMIZE,
    goal: float | None = None,
    objectives: tuple[str, ...] = ("accuracy",),
) -> Run:
    spec = StudySpec(
        name="mnist-tune-0174088b",
        run_id="r",
        model_id="dev/mnist",
        job=_job(),
        domains={"gamma": Double(1e-4, 1e-3), "c": Double(0.01, 1.0), "kernel": Categorical(["rbf", "poly"])},
        objectives=objectives,
        pareto=len(objectives) > 1,
        trials=trials,
        direction=direction,
        goal=goal,
    )
    return _create(home, RunKind.TUNE, spec.name, study=spec)


def deployment(home: Path) -> Run:
    spec = EndpointSpec(
        name="dev-mnist",
        run_id="r",
        model_id="dev/mnist",
        revision=REVISION,
        artifact_uri=f"s3://kaptain/models/dev/mnist/deploy/{REVISION}",
        framework=ModelFramework.SKLEARN,
    )
    return _create(home, RunKind.DEPLOY, spec.name, endpoint=spec)


REPORT = """Classification report for classifier SVC(gamma=0.001):
              precision    recall  f1-score   support
           0       1.00      0.99      0.99        88
           1       0.99      0.97      0.98        91

    accuracy                           0.97       899

Model accuracy: 0.9688542825361512
"""


def trained(home: Path) -> Run:
    """The tutorial's training run, ended well."""
    at = BEGIN
    return training(home).tell(
        Noted(text='Submitting a new training job "mnist-job-17921389".', time=at),
        StateChanged(state=RunState.RUNNING, time=at + 0.1),
        LogWritten(text=REPORT, time=at + 1),
        MetricReported(name="accuracy", value=0.9688542825361512, time=at + 2),
        ArtifactSaved(uri=MODEL_URI, size=345_000, framework="sklearn", format="joblib", time=at + 2.1),
        Noted(text="Model training is completed.", time=at + 2.3),
        StateChanged(state=RunState.SUCCEEDED, exit_code=0, time=at + 2.4),
    )


def failed(home: Path) -> Run:
    at = BEGIN
    trace = 'Traceback (most recent call last):\n  File "training.py", line 3\nZeroDivisionError: <b>zero</b>\n'
    return training(home).tell(
        StateChanged(state=RunState.RUNNING, time=at),
        LogWritten(text=trace, time=at + 1),
        Noted(text="the disk is almost full", warning=True, hint="%kaptain clean frees some", time=at + 1),
        StateChanged(
            state=RunState.FAILED,
            reason="the script ended with exit code 1: ZeroDivisionError: <b>zero</b>",
            hint="the last lines of the log have the cause",
            exit_code=1,
            time=at + 1.2,
        ),
    )


def progress(home: Path, epochs: int = 40) -> Run:
    """A training run in the middle of its epochs."""
    run = training(home).tell(StateChanged(state=RunState.RUNNING, time=BEGIN))
    for epoch in range(epochs):
        loss = 2.3 * math.exp(-epoch / 12) + 0.02 * math.sin(epoch)
        run.tell(
            MetricReported(name="loss", value=loss, step=epoch, time=BEGIN + epoch),
            MetricReported(name="val_accuracy", value=1 - loss / 2.5, step=epoch, time=BEGIN + epoch),
            LogWritten(
                text=f"epoch {epoch:3d}  loss={loss:.4f}  val_accuracy={1 - loss / 2.5:.4f}\n", time=BEGIN + epoch
            ),
        )
    return run


def trial_events(number: int, seed: int = 7, best: float = -1.0) -> tuple[TrialChanged, TrialChanged, float]:
    """Return a trial's start, its end, and the best value with it."""
    random_ = random.Random(seed * 100_003 + number)
    gamma, c = random_.uniform(1e-4, 1e-3), random_.uniform(0.01, 1.0)
    started = BEGIN + number * 5
    shared = {
        "number": number,
        "name": f"mnist-tune-0174088b-{random_.getrandbits(32):08x}",
        "parameters": {"gamma": gamma, "c": c, "kernel": random_.choice(["rbf", "poly"])},
        "started": started,
    }
    begun = TrialChanged(state=TrialState.RUNNING, time=started, **shared)
    if number % 10 == 4:
        reason = "exit code 1: ValueError: C <= 0"
        ended = TrialChanged(state=TrialState.FAILED, ended=started + 2, time=started + 2, reason=reason, **shared)
        return begun, ended, best
    value = 0.97 - 0.2 * abs(gamma - 8e-4) * 1000 - 0.1 * (1 - c) ** 2
    done = TrialChanged(
        state=TrialState.SUCCEEDED,
        ended=started + 4.2,
        time=started + 4.2,
        metrics={"accuracy": MetricSummary(value, value, value)},
        best=value > best,
        **shared,
    )
    return begun, done, max(best, value)


def tuning(home: Path, trials: int = 12, told: int | None = None, goal: float | None = 0.99) -> Run:
    """A study after ``told`` of its trials, the last two of them still running."""
    told = trials if told is None else told
    run = study(home, trials, goal=goal).tell(
        Noted(text="Experiment mnist-tune-0174088b has been created.", time=BEGIN),
        StateChanged(state=RunState.RUNNING, time=BEGIN),
    )
    best = -1.0
    for number in range(told):
        begun, ended, best = trial_events(number, best=best)
        run.tell(begun, *([ended] if told == trials or number < told - 2 else []))
    return run


def tuned(home: Path, trials: int = 12) -> Run:
    """A study that has ended well."""
    run = tuning(home, trials)
    end = BEGIN + trials * 5
    return run.tell(
        Noted(text="Model tuning completed, final status: Succeeded", time=end),
        ArtifactSaved(
            uri="s3://kaptain/models/dev/mnist/tuned/d039aa7b4bb64f2bb71490bb046cfd00", size=329_000, time=end
        ),
        StateChanged(state=RunState.SUCCEEDED, time=end + 5),
    )


def deployed(home: Path) -> Run:
    at = BEGIN
    waiting = EndpointChanged(name="dev-mnist", state=EndpointState.PENDING, time=at + 1)
    return deployment(home).tell(
        Noted(text=f"Deploying model from s3://kaptain/models/dev/mnist/deploy/{REVISION}", time=at),
        StateChanged(state=RunState.RUNNING, time=at),
        waiting,
        EndpointChanged(name="dev-mnist", state=EndpointState.READY, url=URL, traffic={REVISION: 100}, time=at + 2),
        StateChanged(state=RunState.SUCCEEDED, time=at + 2.1),
    )

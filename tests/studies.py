"""A target for the study loop that is as small as the protocol allows: a job is a Python function in this process."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import ArtifactSaved, Event, MetricReported, StateChanged, TrialChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.targets.base import Check, JobRef
from kaptain_magics.tuning.finish import StudyResult
from kaptain_magics.tuning.study import run_study


class StoppedError(Exception):
    """Ends an objective from outside."""


class LostError(Exception):
    """The job is lost by no fault of the objective."""


class Job:
    """What an objective sees of its job."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.stop = threading.Event()

    def report(self, name: str, value: float, step: int | None = None) -> None:
        self.events.put(MetricReported(name=name, value=value, step=step))

    def save(self) -> None:
        self.events.put(ArtifactSaved(uri=self.spec.upload_uri))

    def lose(self) -> None:
        raise LostError

    def hang(self) -> None:
        assert self.stop.wait(60), "nobody stopped this trial"
        raise StoppedError


Objective = Callable[[Job, Mapping[str, Value]], float | None]


class FunctionTarget:
    """Runs a function as a job; its return value is the metric ``accuracy``."""

    name = "function"

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.jobs: dict[str, Job] = {}
        self.submitted: list[JobSpec] = []
        self.running = self.most_running = 0
        self._lock = threading.Lock()

    def check(self) -> list[Check]:
        return []

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        return ""

    def submit(self, job: JobSpec) -> JobRef:
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.submitted.append(job)
        mine = self.jobs[job.name] = Job(job)
        threading.Thread(target=self._run, args=(mine,), daemon=True).start()
        return JobRef(target=self.name, name=job.name)

    def _run(self, job: Job) -> None:
        job.events.put(StateChanged(state=RunState.RUNNING))
        try:
            value = self.objective(job, job.spec.parameters)
            if value is not None:
                job.report("accuracy", value)
            end = StateChanged(state=RunState.SUCCEEDED)
        except StoppedError:
            end = StateChanged(state=RunState.STOPPED, reason="stopped")
        except LostError:
            end = StateChanged(state=RunState.FAILED, reason="the worker was killed", hint="lower it", lost=True)
        except Exception as error:
            end = StateChanged(state=RunState.FAILED, reason=f"the script raised {error!r}", hint="mend it")
        with self._lock:
            self.running -= 1
        job.events.put(end)

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        while True:
            event = self.jobs[job.name].events.get(timeout=60)
            yield event
            if isinstance(event, StateChanged) and event.state.terminal:
                return

    def stop(self, job: JobRef) -> None:
        self.jobs[job.name].stop.set()


class Studies:
    """Runs studies and keeps their notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.stopping = threading.Event()
        self.target: Any = None

    def spec(self, **changes: Any) -> StudySpec:
        script = Script(name="training.py", source="")
        job = JobSpec(name="", run_id="r", model_id="dev/m", script=script, framework=ModelFramework.PYTHON)
        known = {
            "name": "m-tune-0174088b", "run_id": "r", "model_id": "dev/m", "job": job, "objectives": ("accuracy",),
            "trials": 6, "parallel": 1, "seed": 1,
        }  # fmt: skip
        return StudySpec(**{**known, **changes})

    def run(self, objective: Objective, earlier: tuple[TrialChanged, ...] = (), **changes: Any) -> StudyResult:
        self.target = FunctionTarget(objective)
        return run_study(
            self.spec(**changes), self.target, emit=self.events.append, stopping=self.stopping,
            folder=self.folder, upload_base="file:///store/dev/m", earlier=earlier,
        )  # fmt: skip

    @property
    def trials(self) -> list[TrialChanged]:
        """The last event of every trial, by number."""
        last = {e.number: e for e in self.events if isinstance(e, TrialChanged)}
        return [last[number] for number in sorted(last)]

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.005)

    def states(self) -> list[TrialState]:
        return [t.state for t in self.trials]


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(tmp_path)

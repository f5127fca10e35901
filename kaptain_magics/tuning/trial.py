"""One running trial: its job's events folded into what the study knows of it."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from pathlib import Path

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import (
    ArtifactSaved,
    Displayed,
    Event,
    MetricReported,
    MetricSummary,
    StateChanged,
    TrialChanged,
)
from kaptain_magics.core.metric_lines import explain_missing
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.errors import KaptainError
from kaptain_magics.files import open_append, private_folder
from kaptain_magics.state.content import keep_content
from kaptain_magics.targets.base import JobRef, Target

_STEPS_KEPT = 1000  # steps of a trial that its event holds at most
_SEEN_AT_MOST = 20  # names of metrics that are remembered for a message
_LOG_TAIL = 64 * 1024  # bytes at the end of a log, where the reason of a failure stands
_NUMBER = re.compile(r"[+-]?\d[\d.]*(?:e[+-]?\d+)?", re.IGNORECASE)

_ENDS = {
    RunState.SUCCEEDED: TrialState.SUCCEEDED,
    RunState.FAILED: TrialState.FAILED,
    RunState.STOPPED: TrialState.KILLED,
}


class Trial:
    """A trial from its start to its end.

    Args:
        number: Its number in the study.
        parameters: Its hyperparameters.
        job: Its job.
        objectives: The metrics to follow; the first one decides.
        retries: How many jobs of it were lost before this one by no fault of the script.
        needed: How many of the metrics it must report: those that decide.

    Attributes:
        state: Its state.
        ref: The submitted job, once it is.
        halted: Set when the study stops the trial; then ``halt_state`` and ``reason`` say how.
        reason: Why it failed or was stopped.
        hint: The next step.
        announced: Whether an event has shown it.
        lost: Whether its job was lost by no fault of the script.
        steps: How many steps of the first objective it has reported.
    """

    def __init__(
        self,
        number: int,
        parameters: dict[str, Value],
        job: JobSpec,
        objectives: tuple[str, ...],
        retries: int = 0,
        needed: int = 1,
    ) -> None:
        self.number, self.parameters, self.job = number, parameters, job
        self.lost, self.retries = False, retries
        self.state = TrialState.PENDING
        self.ref: JobRef | None = None
        self.halted = threading.Event()
        self.reason = self.hint = ""
        self.announced = False
        self.steps = 0
        self._halt_state = TrialState.KILLED
        self._objectives, self._needed = objectives, objectives[:needed]
        self._metrics: dict[str, MetricSummary] = {}
        self._broken: dict[str, str] = {}  # what decides and is not finite
        self._others: dict[str, None] = {}
        self._step = -1
        self._course: dict[int, float] = {}
        self._stride = 1
        self._started = self._ended = 0.0
        self._artifact_uri = ""

    def halt(self, state: TrialState, reason: str) -> None:
        """Note that the study stops the trial, in which state it is to end and why."""
        self._halt_state, self.reason = state, reason
        self.halted.set()

    def take(self, event: Event) -> None:
        """Fold one event of the job in; facts may come twice."""
        match event:
            case StateChanged(state=RunState.RUNNING) if self.state is TrialState.PENDING:
                self.state, self._started = TrialState.RUNNING, event.time or time.time()
            case StateChanged() if event.state.terminal:
                self._end(event)
            case MetricReported():
                self._measure(event.name, event.value)
            case ArtifactSaved():
                self._artifact_uri = event.uri

    def intermediate(self, event: MetricReported) -> tuple[int, float] | None:
        """Return step and value where the event is news about the first objective; steps count from 0 if unnamed."""
        if event.name != self._objectives[0] or not math.isfinite(event.value):
            return None
        step = self._step + 1 if event.step is None else event.step
        if step <= self._step:
            return None
        self._step = step
        if self.steps % self._stride == 0:
            self._course[step] = event.value
            if len(self._course) >= _STEPS_KEPT:
                self._course = dict(list(self._course.items())[::2])
                self._stride *= 2
        self.steps += 1
        return step, event.value

    def _measure(self, name: str, value: float) -> None:
        if name not in self._objectives:
            if len(self._others) < _SEEN_AT_MOST:
                self._others[name] = None
        elif not math.isfinite(value):
            if name in self._needed:
                self._broken[name] = f"metric `{name}` is {value}"
        else:
            self._metrics[name] = MetricSummary.of(value, self._metrics.get(name))
            self._broken.pop(name, None)

    def _end(self, event: StateChanged) -> None:
        self._ended = event.time or time.time()
        self._started = self._started or self._ended
        self.state = _ENDS[event.state]
        if self.halted.is_set() and self.state is not TrialState.SUCCEEDED:
            self.state = self._halt_state
            return
        self.lost = event.lost
        self.reason, self.hint = event.reason, event.hint
        if self.state is TrialState.FAILED:
            from kaptain_magics.script.missing_files import hint_for_missing

            self.hint = hint_for_missing(event.reason, event.hint, self.job)
        missing = [name for name in self._needed if name not in self._metrics]
        if self.state is TrialState.SUCCEEDED and (self._broken or missing):
            self.state = TrialState.FAILED
            broken = next(iter(self._broken.values()), "")
            self.reason, self.hint = (broken, "") if broken else self._never_reported(missing[0])

    def _never_reported(self, name: str) -> tuple[str, str]:
        log = _end_of(Path(self.job.folder) / "log.txt")
        return explain_missing(name, log, [*self._metrics, *self._others])

    def submit(self, target: Target) -> JobRef:
        """Submit the job, whose folder is there then."""
        private_folder(Path(self.job.folder))
        self.ref = ref = target.submit(self.job)
        return ref

    def write_log(self, text: str) -> None:
        """Append to the log in the trial's folder, for targets whose jobs do not write it there themselves."""
        folder = Path(self.job.folder)
        with contextlib.suppress(OSError):  # a full disk must not end a trial on a cluster
            private_folder(folder)
            with open_append(folder / "log.txt") as file:
                file.write(text.encode("utf-8", "replace"))

    def keep(self, event: Displayed) -> None:
        """Keep what the script shows in the trial's folder; a study does not show it."""
        with contextlib.suppress(KaptainError):  # a full disk must not end a trial on a cluster
            keep_content(event, Path(self.job.folder))

    def changed(self, *, best: bool = False) -> TrialChanged:
        """Return the trial as an event."""
        return TrialChanged(
            number=self.number,
            name=self.job.name,
            state=self.state,
            parameters=self.parameters,
            metrics=dict(self._metrics),
            started=self._started,
            ended=self._ended,
            reason=self.reason,
            artifact_uri=self._artifact_uri,
            best=best,
            steps=self._course if self.state.terminal and self.steps > 1 else {},
        )


def _end_of(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def same_but_for_numbers(one: str, other: str) -> bool:
    """Whether two reasons are the same but for their numbers."""
    return _NUMBER.sub("#", one) == _NUMBER.sub("#", other)

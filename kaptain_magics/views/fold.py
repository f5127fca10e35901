"""Events become what is shown: a constant amount of work for each event, a bounded memory for the run.

A view may be asked for anything at any time; it holds what was true after the last event it took.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

from kaptain_magics.core.events import (
    AnyEvent,
    ArtifactSaved,
    Displayed,
    EndpointChanged,
    FileWritten,
    LogWritten,
    MetricReported,
    MetricSummary,
    Noted,
    StateChanged,
    TrialChanged,
)
from kaptain_magics.core.pareto import BestTrials
from kaptain_magics.core.states import Direction, EndpointState, RunKind, RunState, TrialState
from kaptain_magics.views.base import Followable
from kaptain_magics.views.formats import log_line, size
from kaptain_magics.views.lines import LogTail

_POINTS = 240  # points kept of a metric's course: more than its line in the card has pixels
_WARNINGS = 5  # warnings kept, the newest ones
_DISPLAYS = 60  # figures and tables that are shown, the newest ones
_TABLE = "{:<20} {:<10} {:<25} {:<25} {}"  # the tutorial's table of an endpoint that comes up
_READY = {EndpointState.PENDING: "Unknown", EndpointState.READY: "True"}


class MetricHistory:
    """How a metric went: its summary, and an even sample of its values that never grows beyond a bound."""

    def __init__(self) -> None:
        self.summary: MetricSummary | None = None
        self.step: int | None = None
        self.count = 0
        self.points: list[tuple[float, float]] = []
        self._stride = 1

    def take(self, event: MetricReported) -> None:
        """Add a value to the summary, and to the sample where it is its turn."""
        value = event.value
        self.summary = MetricSummary.of(value, self.summary)
        self.step = event.step
        if self.count % self._stride == 0:
            self.points.append((self.count if event.step is None else event.step, value))
            if len(self.points) >= _POINTS:
                del self.points[1::2]
                self._stride *= 2
        self.count += 1


class RunView:
    """A run's state, folded from its events.

    Args:
        run: The run that the events come from.
        tail: Where the end of its log is kept.
    """

    def __init__(self, run: Followable, tail: LogTail | None = None) -> None:
        self.run_id = run.run_id
        self.name = run.name
        self.model_id = run.model_id
        self.kind = RunKind(run.kind)
        self.target = run.target
        self.version = 0  # grows with every event
        self.state = RunState.PENDING
        self.reason = ""
        self.hint = ""
        self.started = 0.0
        self.ended = 0.0
        self.log = tail or LogTail()
        self.log_bytes = 0
        self.metrics: dict[str, MetricHistory] = {}
        self.artifact: ArtifactSaved | None = None
        self.warnings: deque[Noted] = deque(maxlen=_WARNINGS)
        self.displays: dict[str, Displayed] = {}  # by key, in the order in which they came
        self.drawn: dict[int, str] = {}  # the HTML of what is shown, by number of the event
        self._run = run

    def elapsed(self, now: float) -> float:
        """Seconds that the run took, or takes until ``now`` (seconds since 1970)."""
        return (self.ended or now) - self.started if self.started else 0.0

    def take(self, event: AnyEvent) -> None:
        """Take the next event; the same fact twice does no harm."""
        self.version += 1
        self.started = self.started or event.time
        match event:
            case LogWritten():
                self._write(event)
            case MetricReported():
                self.metrics.setdefault(event.name, MetricHistory()).take(event)
            case StateChanged():
                self._change(event)
            case ArtifactSaved():
                self.artifact = event
            case Displayed():
                self._show(event)
            case FileWritten():
                pass  # `%kaptain show` lists them
            case Noted():
                self._note(event)
            case _:
                self._take_other(event)

    def _take_other(self, event: TrialChanged | EndpointChanged) -> None:
        """Take an event that only some kinds of runs have."""

    def _change(self, event: StateChanged) -> None:
        self.state, self.reason, self.hint = event.state, event.reason, event.hint
        if event.state.terminal:
            self.ended = event.time

    def _write(self, event: LogWritten) -> None:
        missing = event.end - event.start - len(event.text.encode())
        if missing > 0:  # the store hands out the end of a long piece only
            self.log.add(f"… {size(missing)} of the log are not shown here …")
        self.log_bytes = max(self.log_bytes, event.end)
        self.log.write(event.text)

    def _show(self, event: Displayed) -> None:
        if event.clears:
            self.displays.clear()
        self.displays[event.key] = event
        if len(self.displays) > _DISPLAYS:
            del self.displays[next(iter(self.displays))]
        path = self.path_of(event)
        picture = path is not None and event.mime != "text/html"
        for line in [f"{event.text or event.mime}: {path}"] if picture else event.text.splitlines():
            self.log.add(line)

    def path_of(self, event: Displayed) -> Path | None:
        """Return where the content of something shown is on this machine."""
        return self._run.path_of(event.file) if event.file else None

    def _note(self, event: Noted) -> None:
        if event.warning:
            self.warnings.append(event)
        level = "WARNING" if event.warning else "INFO"
        for line in (*log_line(event.time, event.text, level).splitlines(), *event.hint.splitlines()):
            self.log.add(line)


class StudyView(RunView):
    """A study: its trials by number, how many are in each state, and the best."""

    def __init__(self, run: Followable, tail: LogTail | None = None) -> None:
        super().__init__(run, tail)
        study = run.record.study
        assert study is not None
        self.objectives = study.objectives
        self.objective = study.objectives[0]
        self.direction: Direction = study.direction
        self.goal = study.goal
        self.planned = study.trials
        self.parameters = tuple(study.domains)
        self.trials: dict[int, TrialChanged] = {}
        self.counts: dict[TrialState, int] = dict.fromkeys(TrialState, 0)
        self.best: TrialChanged | None = None
        self.pareto = BestTrials(study.deciding) if study.pareto else None  # the Pareto set, of several objectives
        self.changed: set[int] = set()  # numbers of the trials that changed since it was emptied

    @property
    def finished(self) -> int:
        """Trials that have ended, in whatever way."""
        return sum(count for state, count in self.counts.items() if state.terminal)

    def value(self, trial: TrialChanged) -> float | None:
        """The objective's finite value of a trial that has succeeded, or was stopped early with one."""
        if trial.state not in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED):
            return None
        summary = trial.metrics.get(self.objective)
        return summary.latest if summary is not None and math.isfinite(summary.latest) else None

    def _take_other(self, event: TrialChanged | EndpointChanged) -> None:
        if not isinstance(event, TrialChanged):
            return
        before = self.trials.get(event.number)
        if before is not None:
            self.counts[before.state] -= 1
        self.counts[event.state] += 1
        self.trials[event.number] = event
        self.changed.add(event.number)
        if self.pareto is not None:
            self.changed |= {trial.number for trial in self.pareto.trials}
            self.pareto.take(event)
            self.best = self.pareto.best
        elif event.best:
            if self.best is not None:
                self.changed.add(self.best.number)
            self.best = event

    def is_best(self, trial: TrialChanged) -> bool:
        """Whether a trial is the best so far, or in the Pareto set."""
        best = self.pareto.trials if self.pareto is not None else [self.best] if self.best is not None else []
        return any(trial.number == other.number for other in best)

    def ranked(self) -> list[TrialChanged]:
        """All trials: the Pareto set or the best first, then those without a value, by number."""
        sign = -1.0 if self.direction is Direction.MAXIMIZE else 1.0

        def sort_key(trial: TrialChanged) -> tuple[bool, float, int]:
            value = self.value(trial)
            if self.pareto is not None and self.is_best(trial):
                return False, -math.inf, trial.number
            return value is None, sign * value if value is not None else 0.0, trial.number

        return sorted(self.trials.values(), key=sort_key)


class EndpointView(RunView):
    """A deployment: the endpoint as it is, and every state on the way."""

    def __init__(self, run: Followable, tail: LogTail | None = None) -> None:
        super().__init__(run, tail)
        endpoint = run.record.endpoint
        assert endpoint is not None
        self.revision = endpoint.revision
        self.endpoint: EndpointChanged | None = None

    def _take_other(self, event: TrialChanged | EndpointChanged) -> None:
        if not isinstance(event, EndpointChanged):
            return
        if self.endpoint is None:
            self.log.add(_TABLE.format("NAME", "READY", "PREV", "LATEST", "URL"))
        self.endpoint = event
        latest = event.traffic.get(self.revision, next(reversed(event.traffic.values()), None))
        previous = "" if latest is None else 100 - latest
        share = "" if latest is None else latest
        parts = urlsplit(event.url or event.cluster_url)
        host = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
        self.log.add(_TABLE.format(event.name, _READY.get(event.state, "False"), previous, share, host).rstrip())


_VIEWS: dict[RunKind, type[RunView]] = {
    RunKind.TRAIN: RunView,
    RunKind.TUNE: StudyView,
    RunKind.DEPLOY: EndpointView,
}


def view_of(run: Followable, tail: LogTail | None = None) -> RunView:
    """Return an empty view for a run of any kind."""
    return _VIEWS[RunKind(run.kind)](run, tail)

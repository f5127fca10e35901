"""Follows an Experiment of Katib: its Trials become the run's events."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import datetime

import msgspec

from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Integer, Value
from kaptain_magics.core.events import Event, LogWritten, MetricSummary, Noted, StateChanged, TrialChanged
from kaptain_magics.core.metric_lines import explain_missing
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.errors import KaptainError
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.exit_reason import exit_reason
from kaptain_magics.targets.kubernetes.api.explain import Problem
from kaptain_magics.targets.kubernetes.api.feed import TICK, Feed
from kaptain_magics.targets.kubernetes.api.feed_items import Change, Item, SourceFailure
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.api.log_stream import last_log
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession
from kaptain_magics.targets.kubernetes.jobs.job_follower import STOPPED
from kaptain_magics.targets.kubernetes.manifests import labels

NUMBER = "kaptain-magics/number"  # annotation of a Trial
COLLECTOR = "metrics-logger-and-collector"  # Katib's container beside the script; it has the script's output
_HEADER = r"\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [^\s\]]+\] ?"  # the collector logs the script's lines behind it, and its own
_OWN = re.compile(rf"^[WEF]{_HEADER}.*\n?|^I{_HEADER}Trial Name: .*\n?|^I{_HEADER}", re.M)
_STATES = {
    "Succeeded": TrialState.SUCCEEDED,
    "EarlyStopped": TrialState.EARLY_STOPPED,
    "Killed": TrialState.KILLED,
    "Failed": TrialState.FAILED,
    "MetricsUnavailable": TrialState.FAILED,
    "Running": TrialState.RUNNING,
}


class StudyFollower:
    """One reader of one study.

    Attributes:
        unfinished: Whether the Experiment would go on if it were left alone.
    """

    def __init__(self, session: ClusterSession, spec: StudySpec) -> None:
        self._session, self._cluster, self._spec = session, session.cluster, spec
        self._experiment: Manifest = {}
        self._gone = False
        self._numbers: dict[str, int] = {}
        self._trials: dict[str, TrialChanged] = {}
        self._reported: set[str] = set()
        self._blocked_since = 0.0
        self._best = ""
        self.unfinished = False

    def events(self) -> Generator[Event, None, StateChanged]:
        """Yield what happens; returns the last state."""
        experiment = self._cluster.get("Experiment", self._spec.name)
        if experiment is None:
            return StateChanged(state=RunState.STOPPED, reason=f"experiment {self._spec.name} is not on the cluster")
        self._experiment = experiment
        deadline = time.monotonic() + (self._spec.timeout or float("inf"))
        yield Noted(text=f"Creating experiment {self._spec.name} in namespace {self._cluster.namespace}")
        for trial in self._cluster.list("Trial", f"katib.kubeflow.org/experiment={self._spec.name}"):
            if NUMBER in trial["metadata"].get("annotations", {}):
                self._number(trial)  # before those that have none get the next ones
        with Feed(self._cluster) as feed:
            feed.watch("experiment", "Experiment", fields=f"metadata.name={self._spec.name}")
            feed.watch("trials", "Trial", labels=f"katib.kubeflow.org/experiment={self._spec.name}")
            feed.watch("pods", "Pod", labels=f"{labels.STUDY}={self._spec.name}")
            feed.watch("events", "Event", fields="reason=FailedCreate")
            # The states, and the clock that ends each of them:
            #   running   trials come and go    the study's timeout
            #   blocked   pods cannot start     the pending timeout since the first warning; a start resets it
            #   ended     the Experiment says so, or is gone
            while True:
                item = feed.next(TICK)
                end = (yield from self._take(item)) if item is not None else self._on_deadline(deadline)
                if end is not None:
                    yield from self._final_trials()
                    return end

    def _take(self, item: Item) -> Generator[Event, None, StateChanged | None]:
        if isinstance(item, SourceFailure):
            return (yield from self._on_source_failure(item))
        if not isinstance(item, Change):
            return None
        if item.source == "experiment":
            self._experiment, self._gone = item.resource, item.gone
            return self._verdict()
        if item.source == "trials":
            if not item.gone:
                yield from self._trial(item.resource)
            return None
        problem = None if item.gone else self._problem(item)
        if problem is None:
            return None
        if problem.lasting:
            self.unfinished = True
            return StateChanged(state=RunState.FAILED, reason=problem.sentence, hint=problem.hint)
        self._blocked_since = self._blocked_since or time.monotonic()
        if problem.sentence not in self._reported:
            self._reported.add(problem.sentence)
            yield Noted(text=problem.sentence, warning=True, hint=problem.hint)
        return None

    def _problem(self, item: Change) -> Problem | None:
        if item.source == "pods":
            waits = item.resource.get("status", {}).get("phase") == "Pending"
            return explain.pod_problem(item.resource) if waits else None
        subject = item.resource.get("involvedObject", {})
        ours = str(subject.get("name", "")).startswith(f"{self._spec.name}-")
        return explain.event_problem(item.resource) if ours else None

    def _on_source_failure(self, failure: SourceFailure) -> Generator[Event, None, StateChanged | None]:
        message = getattr(failure.error, "message", "") or str(failure.error)
        if failure.passing:
            yield Noted(text=f"the connection to the cluster is lost ({message}); trying again", warning=True)
        elif failure.source in ("experiment", "trials"):
            hint = getattr(failure.error, "hint", "")
            return StateChanged(state=RunState.FAILED, reason=f"the study cannot be followed: {message}", hint=hint)
        return None

    # ---- trials --------------------------------------------------------------------------------------------------

    def _trial(self, trial: Manifest) -> Iterator[Event]:
        name = trial["metadata"]["name"]
        number = self._number(trial)
        state = _state(trial)
        previous = self._trials.get(name)
        if previous is not None and (previous.state.terminal or previous.state is state):
            return
        metrics = _metrics(trial)
        reason, log = self._why_failed(trial, name) if state is TrialState.FAILED else ("", "")
        changed = TrialChanged(
            number=number,
            name=name,
            state=state,
            parameters=self._parameters(trial),
            metrics=metrics,
            started=_time(trial["status"].get("startTime")) if "status" in trial else 0.0,
            ended=_time(trial["status"].get("completionTime")) or time.time() if state.terminal else 0.0,
            reason=reason,
            artifact_uri=self._artifact(name) if state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED) else "",
        )
        if state is TrialState.SUCCEEDED and self._better(changed):
            self._best = name
            changed = msgspec.structs.replace(changed, best=True)
        self._trials[name] = changed
        if state is not TrialState.PENDING:
            self._blocked_since = 0.0
        if log:
            yield LogWritten(text=f"[{name}] logs:\n{log}", source=name)
        yield changed

    def _number(self, trial: Manifest) -> int:
        """Return a trial's number, noted with the trial so that every reader gives it the same."""
        name, noted = trial["metadata"]["name"], trial["metadata"].get("annotations", {}).get(NUMBER)
        if name not in self._numbers:
            self._numbers[name] = int(noted) if noted else max(self._numbers.values(), default=-1) + 1
            if not noted:
                with suppress(KaptainError):
                    change = {"metadata": {"annotations": {NUMBER: str(self._numbers[name])}}}
                    self._cluster.patch("Trial", name, change)
        return self._numbers[name]

    def _parameters(self, trial: Manifest) -> dict[str, Value]:
        assigned = trial["spec"].get("parameterAssignments") or ()
        domains = self._spec.domains
        return {a["name"]: _meaning(domains[a["name"]], a["value"]) for a in assigned if a["name"] in domains}

    def _better(self, trial: TrialChanged) -> bool:
        value = trial.latest(self._spec.objectives[0])
        if value is None:
            return False
        best = self._trials[self._best].latest(self._spec.objectives[0]) if self._best else None
        return best is None or self._spec.direction.better(value, best)

    def _artifact(self, name: str) -> str:
        """Return the folder of a trial's model, where it has saved one."""
        if not self._spec.job.upload_uri:
            return ""
        base = self._spec.job.upload_uri.rsplit("/", 2)[0]
        uri = f"{base}/trials/{self._spec.name}/{name}"
        with suppress(KaptainError):
            if self._session.store(uri).exists(f"{uri}/kaptain-manifest.json"):
                return uri
        return ""

    def _why_failed(self, trial: Manifest, name: str) -> tuple[str, str]:
        """Return the reason of a failed trial and the end of its log."""
        pods = self._cluster.list("Pod", labels.selector({labels.JOB: name}))
        container = self._experiment["spec"]["trialTemplate"]["primaryContainerName"]
        log = ""
        for pod in pods:
            log = script_lines(last_log(self._cluster, pod, COLLECTOR)) or last_log(self._cluster, pod, container)
            memory = explain.out_of_memory(pod, container)
            problem = explain.pod_problem(pod)
            state = explain.terminated(pod, container) or {}
            if memory or problem or state.get("exitCode"):
                return memory or (problem.sentence if problem else exit_reason(state, log)[0]), log
        if explain.condition(trial, "MetricsUnavailable"):
            reason, hint = explain_missing(self._spec.objectives[0], log)
            return f"{reason}; {hint}".removesuffix("; "), log
        condition = explain.condition(trial, "Failed") or {}
        return str(condition.get("message") or "the trial failed"), log

    # ---- the end -------------------------------------------------------------------------------------------------

    def _verdict(self) -> StateChanged | None:
        if self._gone:
            stopped_by_us = STOPPED in self._experiment["metadata"].get("annotations", {})
            reason = (
                "the study was stopped" if stopped_by_us else f"experiment {self._spec.name} was deleted on the cluster"
            )
            return StateChanged(state=RunState.STOPPED, reason=reason)
        failed = explain.condition(self._experiment, "Failed")
        if failed is not None:
            return StateChanged(state=RunState.FAILED, reason=self._why_all_failed(str(failed.get("message", ""))))
        succeeded = explain.condition(self._experiment, "Succeeded")
        if succeeded is not None:
            return StateChanged(state=RunState.SUCCEEDED, reason=str(succeeded.get("message", "")))
        return None

    def _why_all_failed(self, message: str) -> str:
        reasons = [t.reason for t in self._trials.values() if t.reason]
        return f"{message or 'the experiment failed'}" + (f"; the last failure: {reasons[-1]}" if reasons else "")

    def _on_deadline(self, deadline: float) -> StateChanged | None:
        if time.monotonic() > deadline:
            self.unfinished = True
            late = f"timed out after {self._spec.timeout:g} s"
            if self._best:
                return StateChanged(state=RunState.SUCCEEDED, reason=late)
            hint = "give it more time with --timeout"
            return StateChanged(state=RunState.FAILED, reason=f"{late} without a succeeded trial", hint=hint)
        if self._blocked_since and time.monotonic() - self._blocked_since > self._session.pending_timeout:
            self.unfinished = True
            return StateChanged(state=RunState.FAILED, reason="; ".join(sorted(self._reported)))
        return None

    def _final_trials(self) -> Iterator[Event]:
        """Yield the trials' last states: the Experiment's end may be seen before theirs."""
        if not self._gone:
            with suppress(KaptainError):
                for trial in self._cluster.list("Trial", f"katib.kubeflow.org/experiment={self._spec.name}"):
                    yield from self._trial(trial)
        for name, changed in self._trials.items():
            if not changed.state.terminal:
                ended = {"state": TrialState.KILLED, "reason": "the study ended", "ended": time.time()}
                self._trials[name] = msgspec.structs.replace(changed, **ended)
                yield self._trials[name]
        best = self._experiment.get("status", {}).get("currentOptimalTrial", {}).get("bestTrialName", "")
        chosen = self._trials.get(best)
        if chosen is not None and best != self._best and chosen.state is TrialState.SUCCEEDED:
            yield msgspec.structs.replace(chosen, best=True)


def script_lines(log: str) -> str:
    """Return the script's lines in the log of Katib's collector."""
    return _OWN.sub("", log)


def _state(trial: Manifest) -> TrialState:
    for kind, state in _STATES.items():
        if explain.condition(trial, kind) is not None:
            return state
    return TrialState.PENDING


def _metrics(trial: Manifest) -> dict[str, MetricSummary]:
    summaries = {}
    for metric in (trial.get("status", {}).get("observation") or {}).get("metrics") or ():
        with suppress(ValueError, KeyError):  # Katib writes "unavailable" where there is none
            numbers = [float(metric[part]) for part in ("min", "max", "latest")]
            summaries[metric["name"]] = MetricSummary(*numbers)
    return summaries


def _meaning(domain: AnyDomain, text: str) -> Value:
    """Return the value that Katib's text stands for."""
    if isinstance(domain, Categorical | Discrete):
        return next((value for value in domain.values if str(value) == text), text)
    return int(float(text)) if isinstance(domain, Integer) else float(text)


def _time(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0

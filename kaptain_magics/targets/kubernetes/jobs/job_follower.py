"""Follows a job on the cluster: what its objects, events and log say becomes the run's events."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from datetime import datetime

import msgspec

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster
from kaptain_magics.targets.kubernetes.api.exit_reason import exit_reason
from kaptain_magics.targets.kubernetes.api.explain import Problem
from kaptain_magics.targets.kubernetes.api.feed import TICK, Feed
from kaptain_magics.targets.kubernetes.api.feed_items import Item, Piece, SourceFailure
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.api.log_stream import last_log
from kaptain_magics.targets.kubernetes.jobs.job_kinds import is_first_worker
from kaptain_magics.targets.kubernetes.jobs.job_record import JobRecord
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests.pod import INIT
from kaptain_magics.targets.output import OutputReader

LOG_BASE = "kaptain-magics/log-base"  # annotation of a job: where the log of a pod that replaced another begins
STOPPED = "kaptain-magics/stopped"  # annotation of a job that was asked to end
_LAST_LOG = 30.0  # seconds that the rest of a log may take after the job's end
_LAST_VERDICT = 20.0  # seconds that a job's own condition may take after its pod's failure


class JobFollower:
    """One reader of one job.

    Args:
        cluster: The cluster.
        name: The job's name.
        record: What is known of it.
        after: Bytes of the log that the caller has.
        pending_timeout: Seconds that something may keep a pod from starting before the job is given up.
        tidy: Removes what belongs to the ended job and yields what it did. It gets whether the job is to go too, and
            the sha256 of the file with the variables to bring back, empty for none.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        record: JobRecord,
        after: int,
        pending_timeout: float,
        tidy: Callable[[bool, str], Iterator[Event]],
    ) -> None:
        self._cluster, self._name, self._record, self._after = cluster, name, record, after
        self._pending_timeout, self._tidy = pending_timeout, tidy
        self._kind, self._container = record.kind, record.container
        self._job: Manifest = {}
        self._pods: dict[str, Manifest] = {}
        self._gone: set[str] = set()
        self._pod = ""  # uid of the pod whose log is read
        self._reader = self._reader_from(after)
        self._base = 0
        self._log_ended = False
        self._log_is_whole = True
        self._running = False
        self._reported: set[str] = set()
        self._watched: set[str] = set()
        self._blocked_since = 0.0

    def _reader_from(self, after: int) -> OutputReader:
        record = self._record
        return OutputReader(record.metrics, after, upload_uri=record.upload_uri, settings=record.settings)

    def events(self) -> Iterator[Event]:
        """Yield the job's events until its end, and remove what belonged to it."""
        job = self._cluster.get(self._kind, self._name)
        if job is None:
            yield from self._tidy(False, "")
            yield StateChanged(
                state=RunState.STOPPED,
                reason=f"job {self._name} is not on the cluster any more",
                hint="run it again",
            )
            return
        self._job = job
        if not self._after and not self._record.trial:
            yield from self._announce()
        with Feed(self._cluster) as feed:
            feed.watch("job", self._kind, fields=f"metadata.name={self._name}")
            feed.watch("pods", "Pod", labels=f"{labels.JOB}={self._name}")
            feed.watch("events", "Event", fields=f"involvedObject.name={self._name}")
            end = yield from self._follow(feed)
        yield from self._tidy(end.state is not RunState.SUCCEEDED and not self._finished(), self._reader.fetched)
        yield end

    def _announce(self) -> Iterator[Event]:
        in_namespace = f"in namespace {self._cluster.namespace}."
        for secret in self._record.secrets:
            yield Noted(text=f"Creating secret {secret} {in_namespace}")
        yield Noted(text=f"Creating {self._kind.lower()} {self._name} {in_namespace}")
        ttl_ignored = self._record.ttl_seconds is not None and "ttlSecondsAfterFinished" not in self._job["spec"]
        if self._kind == "TrainJob" and ttl_ignored:
            text = "the TrainJobs of this cluster have no time to live: the ended job stays"
            yield Noted(text=text, warning=True, hint="have it removed at its end: force_cleanup=True")
        yield Noted(text="Waiting for Master Node Training Model to start...")

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _follow(self, feed: Feed) -> Generator[Event, None, StateChanged]:
        # The states of a job, and the clock that ends each of them:
        #   no pods     its controller has made no pods yet  the pending timeout since the beginning, unless queued
        #   blocked     its pods cannot start yet            the pending timeout since the first warning; a start resets
        #   running     its log is read                      its timeout, where no controller enforces it
        #   ended       the job itself says so               _LAST_LOG for the rest of the log, and
        #                                                    _LAST_VERDICT for the state of the container
        # The watches do not agree in time: a job's end may be seen before its pod's beginning, so ``ended`` looks at
        # the pods once more before it waits. What is lasting (no such image, evicted) ends the job in any state.
        started_at, ended_at = time.monotonic(), 0.0
        while True:
            for item in feed.batch(TICK):
                verdict = yield from self._take(feed, item)
                if verdict is not None:
                    return verdict
            yield from self._start_log(feed)
            if self._ended():
                if not ended_at:
                    ended_at = time.monotonic()
                    self._look_at_pods()
                    yield from self._start_log(feed)
                waited = time.monotonic() - ended_at
                if (self._log_ended or not self._pod or waited > _LAST_LOG) and (
                    self._end_known() or waited > _LAST_VERDICT
                ):
                    yield from self._out(self._reader.finish())
                    return self._verdict()
            elif self._overdue():
                yield from self._out(self._reader.finish())
                return self._timed_out()
            elif self._blocked_since and time.monotonic() - self._blocked_since > self._pending_timeout:
                problem = self._problem()
                if problem is not None:
                    return self._failed(problem, f"; waited {self._pending_timeout:g} s")
                self._blocked_since = 0.0
            elif not self._pods and not self._queued() and time.monotonic() - started_at > self._pending_timeout:
                return self._no_pods()

    def _take(self, feed: Feed, item: Item) -> Generator[Event, None, StateChanged | None]:
        if isinstance(item, Piece):
            if item.source == f"log {self._pod}":
                yield from self._out(self._reader.feed(item.data))
                self._log_ended = self._log_ended or item.ended
                if item.unavailable:
                    self._log_is_whole = False
                    text = f"the node does not have the end of the log: {item.unavailable}"
                    yield Noted(text=text, warning=True)
            return None
        if isinstance(item, SourceFailure):
            return (yield from self._on_source_failure(item))
        if item.source == "job":
            self._job = item.resource
            if item.gone:
                self._gone.add("job")
            return None
        if item.source == "pods":
            uid = item.resource["metadata"]["uid"]
            self._pods[uid] = item.resource
            if item.gone:
                self._gone.add(uid)
            problem = None if item.gone else explain.pod_problem(item.resource)
            if not item.gone and not explain.started(item.resource, self._container):
                self._watch_events(feed, item.resource["metadata"]["name"])
        else:
            problem = explain.event_problem(item.resource) if self._ours(item.resource) else None
        if problem is not None and not self._running:
            if problem.lasting:
                return self._failed(problem)
            yield from self._warn(problem)
        return None

    def _look_at_pods(self) -> None:
        """Ask for the pods: the watch of the job may report its end before that of the pods reports their start."""
        with suppress(KaptainError):
            for pod in self._cluster.list("Pod", f"{labels.JOB}={self._name}"):
                self._pods[pod["metadata"]["uid"]] = pod

    def _on_source_failure(self, failure: SourceFailure) -> Generator[Event, None, StateChanged | None]:
        hint = getattr(failure.error, "hint", "")
        message = getattr(failure.error, "message", "") or str(failure.error) or type(failure.error).__name__
        if failure.passing:
            yield from self._warn(Problem(f"the connection to the cluster is lost ({message}); trying again"))
            return None
        if failure.source.startswith("events"):
            return None
        if isinstance(failure.error, ApiError):
            return self._failed(Problem(f"the job cannot be followed: {message}", hint))
        return StateChanged(
            state=RunState.FAILED,
            reason=f"the cluster did not answer for a long time ({message}); the job may still run there",
            hint=f"when it answers again: kubectl get {self._kind.lower()} {self._name}",
        )

    def _watch_events(self, feed: Feed, pod: str) -> None:
        if pod not in self._watched:
            self._watched.add(pod)
            feed.watch(f"events {pod}", "Event", fields=f"involvedObject.name={pod}")

    def _ours(self, event: Manifest) -> bool:
        """Whether an event is about this job or its pods, and not about an earlier one of the same name."""
        uid = event.get("involvedObject", {}).get("uid")
        return uid == self._job["metadata"]["uid"] or uid in self._pods or not uid

    def _warn(self, problem: Problem) -> Iterator[Event]:
        self._blocked_since = self._blocked_since or time.monotonic()
        if problem.sentence not in self._reported:
            self._reported.add(problem.sentence)
            yield Noted(text=problem.sentence, warning=True, hint=problem.hint)

    # ---- the log -------------------------------------------------------------------------------------------------

    def _start_log(self, feed: Feed) -> Iterator[Event]:
        """Begin with the log of the first worker's pod, or with that of the pod that took its place."""
        if self._pod and not (self._pod in self._gone and self._log_ended):
            return
        for uid, pod in self._pods.items():
            if (
                uid in self._watched
                or not is_first_worker(self._kind, pod)
                or not explain.started(pod, self._container)
            ):
                continue
            if uid in self._gone and self._pod:
                continue
            name = pod["metadata"]["name"]
            yield from self._enter(uid, name)
            self._watched.add(uid)
            self._pod, self._log_ended = uid, False
            feed.log(f"log {uid}", name, self._container)
            self._blocked_since = 0.0
            if not self._running:
                self._running = True
                yield StateChanged(state=RunState.RUNNING)
                if not self._record.trial:
                    yield Noted(text=f"Master Node Training Model started in pod: {name}.")
            return

    def _enter(self, uid: str, name: str) -> Iterator[Event]:
        """Set the place in the log at which a pod's own log begins."""
        noted, _, base = self._job["metadata"].get("annotations", {}).get(LOG_BASE, "").rpartition(":")
        if self._pod:  # it takes the place of a pod that this reader has read
            yield from self._out(self._reader.finish())
            old = self._pods[self._pod]["metadata"]["name"]
            text = f"pod {old} was deleted; {name} runs the script again from its beginning"
            yield Noted(text=text, warning=True)
            self._base += self._reader.cursor
            self._reader = self._reader_from(0)
            with suppress(KaptainError):
                change = {"metadata": {"annotations": {LOG_BASE: f"{uid}:{self._base}"}}}
                self._cluster.patch(self._kind, self._name, change)
        elif noted == uid:  # another reader has seen the change
            self._base = int(base)
            self._reader = self._reader_from(max(0, self._after - self._base))

    def _out(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            yield msgspec.structs.replace(event, cursor=event.cursor + self._base) if event.cursor else event

    # ---- the end -------------------------------------------------------------------------------------------------

    def _finished(self) -> bool:
        """Whether the job itself says that it has ended."""
        ends = ("Complete", "Failed", "Succeeded")
        return any(explain.condition(self._job, end) for end in ends)

    def _no_pods(self) -> StateChanged:
        what = f"{self._kind.lower()} {self._name}"
        hint = f"see whether the controller of {self._kind} runs: kubectl describe {what}"
        return self._failed(Problem(f"no pod was created for {what} in {self._pending_timeout:g} s", hint))

    def _queued(self) -> bool:
        """Whether a queue of the cluster holds the job back for now."""
        spec = self._job.get("spec", {})
        return bool(spec.get("suspend") or spec.get("runPolicy", {}).get("suspend"))

    def _ended(self) -> bool:
        if "job" in self._gone or self._finished():
            return True
        pod = self._pods.get(self._pod, {})
        return (
            self._kind == "Job"
            and pod.get("status", {}).get("phase") == "Succeeded"
            and int(self._job["spec"].get("completions") or 1) == 1
        )

    def _end_known(self) -> bool:
        """Whether the pod's own end is known, as far as it can be."""
        if "job" in self._gone or not self._pod or self._pod in self._gone:
            return True
        return explain.terminated(self._pods[self._pod], self._container) is not None

    def _verdict(self) -> StateChanged:
        pod = self._pods.get(self._pod) or next(iter(self._pods.values()), {})
        state = explain.terminated(pod, self._container) or {}
        code = state.get("exitCode")
        code = 128 - code if isinstance(code, int) and 128 < code < 160 else code
        if "job" in self._gone and not self._finished():
            return StateChanged(state=RunState.STOPPED, reason=self._stop_reason(), exit_code=code)
        failed = explain.condition(self._job, "Failed")
        if failed is None:
            return StateChanged(state=RunState.SUCCEEDED, exit_code=0)
        if failed.get("reason") == "DeadlineExceeded":
            return self._timed_out()
        problem = explain.pod_problem(pod) if pod else None
        memory = explain.out_of_memory(pod, self._container)
        if memory:
            return StateChanged(state=RunState.FAILED, reason=memory, hint="give it more with --memory", exit_code=code)
        if problem is not None:
            return self._failed(problem)
        if code:
            reason, hint = exit_reason(state, self._reader.tail if self._log_is_whole else "")
            return StateChanged(state=RunState.FAILED, reason=reason, hint=hint, exit_code=code)
        return (
            self._init_failed(pod)
            or self._other_failed()
            or StateChanged(
                state=RunState.FAILED,
                reason=f"the job failed: {failed.get('message') or failed.get('reason', 'without a reason')}",
                hint=f"kubectl describe {self._kind.lower()} {self._name}",
            )
        )

    def _overdue(self) -> bool:
        """Whether the timeout is over of a job whose controller has no deadline, as older Trainers."""
        limit = self._record.timeout
        if self._kind != "TrainJob" or not limit or not self._pods:
            return False
        started_at = min(datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) for pod in self._pods.values())
        return time.time() - started_at.timestamp() > limit

    def _timed_out(self) -> StateChanged:
        limit = self._record.timeout
        reason = "timed out" if limit is None else f"timed out after {limit:g} s"
        problem = self._problem()
        if problem is not None and not self._running:
            reason += f": {problem.sentence}"
        return StateChanged(state=RunState.FAILED, reason=reason, hint="give it more time with --timeout")

    def _init_failed(self, pod: Manifest) -> StateChanged | None:
        state = explain.terminated(pod, INIT) if pod else None
        if not state or not state.get("exitCode"):
            return None
        memory = explain.out_of_memory(pod, INIT)
        log = last_log(self._cluster, pod, INIT) or str(state.get("message") or "")
        last = [line for line in log.splitlines() if "ERROR" in line] or [""]
        reason = memory or f"the requirements cannot be installed: {last[-1].removeprefix('ERROR: ').strip()[:300]}"
        hint = "give it more with --memory" if memory else "check --requirements, or use a base image that has them"
        return StateChanged(state=RunState.FAILED, reason=reason.rstrip(": "), hint=hint, exit_code=state["exitCode"])

    def _other_failed(self) -> StateChanged | None:
        """Return the end of another worker, where that is what ended the job."""
        for pod in self._pods.values():
            state = explain.terminated(pod, self._container) or {}
            code = state.get("exitCode")
            if code:
                reason, hint = exit_reason(state, last_log(self._cluster, pod, self._container))
                named = f"{pod['metadata']['name']}: {reason}"
                return StateChanged(state=RunState.FAILED, reason=named, hint=hint, exit_code=code)
        return None

    def _stop_reason(self) -> str:
        stopped_by_us = STOPPED in self._job["metadata"].get("annotations", {})
        return "stopped" if stopped_by_us else f"job {self._name} was deleted on the cluster"

    def _problem(self) -> Problem | None:
        for uid, pod in self._pods.items():
            if uid not in self._gone and (problem := explain.pod_problem(pod)):
                return problem
        return Problem("; ".join(sorted(self._reported))) if self._reported else None

    def _failed(self, problem: Problem, more: str = "") -> StateChanged:
        return StateChanged(state=RunState.FAILED, reason=problem.sentence + more, hint=problem.hint)

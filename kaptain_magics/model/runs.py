"""A run as an object, opened at any time and in any kernel from the run's folder."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import (
    AnyEvent,
    ArtifactSaved,
    MetricReported,
    MetricSummary,
    StateChanged,
    TrialChanged,
)
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.errors import DeploymentFailedError, RunFailedError, ScriptError, StateError
from kaptain_magics.model.endpoint import Endpoint, open_endpoint
from kaptain_magics.model.run_files import RunFile, find_file, run_files
from kaptain_magics.state import Labels, RunFolder, RunRecord, change_labels, read_labels
from kaptain_magics.targets.base import JobRef, RunEnder, ServerLogs
from kaptain_magics.tracking.ending import follow_tracking

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

_STOP_TIMEOUT = 60.0  # seconds for a supervisor to end its work, before it is ended
_KILL_TIMEOUT = 10.0  # seconds for its process to end once it is killed


class Run:
    """A run: training, study or deployment. True when it succeeded.

    Args:
        folder: The run's folder.
        context: What it belongs to.
    """

    _failure: type[RunFailedError] = RunFailedError

    def __init__(self, folder: RunFolder, context: Context) -> None:
        self.folder = folder
        self._context = context
        self._read = 0
        self._metrics: dict[str, MetricSummary] = {}
        self._artifact_uri = ""
        self._trials: dict[int, TrialChanged] = {}

    @property
    def record(self) -> RunRecord:
        """The run's record: its spec, target and settings."""
        return self.folder.record

    @property
    def run_id(self) -> str:
        """The run's id: when it was started, and a random suffix; also its folder's name."""
        return self.folder.run_id

    @property
    def name(self) -> str:
        """The job's, study's or endpoint's name."""
        return self.record.name

    @property
    def model_id(self) -> str:
        """The model's id, such as ``dev/mnist``."""
        return self.record.model_id

    @property
    def kind(self) -> RunKind:
        """Whether it trains, tunes or deploys."""
        return self.record.kind

    @property
    def target(self) -> str:
        """The name of the target that runs it."""
        return self.record.target

    @property
    def framework(self) -> str:
        """The model's framework by name, such as ``sklearn``; empty when it is unknown."""
        return self._job.framework.value if self._job is not None else ""

    @property
    def _job(self) -> JobSpec | None:
        record = self.record
        return record.job or (record.study.job if record.study else None)

    @property
    def state(self) -> RunState:
        """The state now, read from the run's events each time."""
        return self.folder.last_state().state

    @property
    def reason(self) -> str:
        """Why it failed or was stopped; empty otherwise."""
        return self.folder.last_state().reason

    @property
    def hint(self) -> str:
        """What to do after a failure; empty otherwise."""
        return self.folder.last_state().hint

    @property
    def duration(self) -> float:
        """Seconds since it was started, until its end."""
        last = self.folder.last_state()
        return (last.time if last.state.terminal else time.time()) - self.record.created

    @property
    def metrics(self) -> dict[str, MetricSummary]:
        """What was reported, by name: smallest, greatest and latest value."""
        self._catch_up()
        return dict(self._metrics)

    @property
    def hyperparameters(self) -> dict[str, Value]:
        """The hyperparameters of the run."""
        return dict(self._job.parameters) if self._job is not None else {}

    @property
    def artifact_uri(self) -> str:
        """The folder that holds the saved model; empty when there is none."""
        self._catch_up()
        return self._artifact_uri

    def path_of(self, file: str) -> Path:
        """Return where a file of the run, which an event names, is on this machine."""
        return self.folder.path / file

    @property
    def labels(self) -> Labels:
        """The note and the tags that a person has given it."""
        return read_labels(self.folder.path)

    def set_note(self, text: str) -> None:
        """Note something of the run, in the place of the note before."""
        change_labels(self.folder.path, lambda labels: msgspec.structs.replace(labels, note=text))

    def tag(self, *tags: str) -> tuple[str, ...]:
        """Add tags, and return all that it has."""
        return self._retag(lambda before: dict.fromkeys([*before, *tags]))

    def untag(self, *tags: str) -> tuple[str, ...]:
        """Take tags off, and return those that are left."""
        return self._retag(lambda before: [tag for tag in before if tag not in tags])

    def _retag(self, change: Callable[[tuple[str, ...]], Iterable[str]]) -> tuple[str, ...]:
        return change_labels(
            self.folder.path, lambda labels: msgspec.structs.replace(labels, tags=tuple(change(labels.tags)))
        ).tags

    @property
    def files(self) -> list[RunFile]:
        """What the script has shown and written, as files of this machine; of a study, those of its trials."""
        return run_files(self.folder.path, self._job, self.state.terminal)

    def file(self, name: str) -> Path:
        """Return where a file of the run is, by its name in ``files`` or the end of that.

        Raises:
            NotFoundError: There is none of that name, or several.
        """
        return find_file(self.files, name, self.run_id)

    def log(self, lines: int | None = None) -> str:
        """Return the job's log.

        Args:
            lines: How many lines of its end; ``None`` for the whole.
        """
        if lines is None:
            return self.folder.log_text(at_most=1 << 62)
        text = self.folder.log_text(at_most=max(1 << 16, lines * 1024))
        return "\n".join(text.splitlines()[-lines:])

    def follow(self, after: int = 0, tick: float | None = None) -> Iterator[AnyEvent | None]:
        """Yield the run's events from number ``after`` until its end; ``None`` every ``tick`` seconds without one.

        Where the run is reported to a tracker, this ends when that is done.
        """
        yield from self.folder.follow(after, tick)
        yield from follow_tracking(self.folder, tick)

    def wait(self, timeout: float | None = None) -> RunState:
        """Wait for the run's end.

        Args:
            timeout: Seconds to wait at most; the run goes on after that.

        Returns:
            The state then.
        """
        until = None if timeout is None else time.monotonic() + timeout
        last = self.folder.last_state()
        for _ in self.follow(tick=0.1):
            if until is not None and time.monotonic() > until:
                break
        else:
            last = self.folder.last_state()
        return last.state if last.state.terminal else self.state

    def stop(self) -> None:
        """End the run and what belongs to it; waits until that is done. Ended runs are left alone.

        A supervisor that was paused is woken; one that does not end in a minute is killed, and its jobs are ended here.

        Raises:
            StateError: It does not end.
        """
        # running -> SIGTERM sent (60 s at most) -> ended by its supervisor, or killed (10 s at most) and settled here
        until = time.monotonic() + _STOP_TIMEOUT
        signalled = False
        while not self.state.terminal:
            if not signalled:
                signalled = self._signal(signal.SIGTERM)
            if time.monotonic() > until:
                self._end_by_force()
            time.sleep(0.02)

    def _signal(self, number: int) -> bool:
        """Send a signal to the supervisor, and wake it; returns whether there is one."""
        if self.folder.lock.held_by_other():
            with contextlib.suppress(OSError, ValueError):
                pid = int((self.folder.path / "supervisor.pid").read_text())
                os.kill(pid, number)
                if hasattr(signal, "SIGCONT"):
                    os.kill(pid, signal.SIGCONT)
                return True
        return False

    def _end_by_force(self) -> None:
        """Kill a supervisor that does not answer, and end what it leaves."""
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        until = time.monotonic() + _KILL_TIMEOUT
        while self.folder.lock.held_by_other():
            if time.monotonic() > until:
                raise StateError(f"run {self.run_id} could not be stopped", "%kaptain doctor checks the target")
            time.sleep(0.02)
        reason = f"stopped; its supervisor did not answer for {_STOP_TIMEOUT:g} s and was killed"
        self.folder.settle(StateChanged(state=RunState.STOPPED, reason=reason))
        target = self._context.target(self.target)
        if isinstance(target, RunEnder):
            target.end_run(self.run_id)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            target.stop(msgspec.json.decode((self.folder.path / "job.json").read_bytes(), type=JobRef))

    def raise_for_failure(self) -> None:
        """Do nothing for a run that succeeded.

        Raises:
            RunFailedError: It failed or was stopped; the message has the reason.
        """
        last = self.folder.last_state()
        if last.state is not RunState.SUCCEEDED:
            hint = last.hint or f"%kaptain logs {self.run_id} shows its whole log; it is {self.folder.log_path}"
            raise self._failure(f"{self.name} {last.state}: {last.reason}".rstrip(": "), hint)

    def __bool__(self) -> bool:
        return self.state is RunState.SUCCEEDED

    def __repr__(self) -> str:
        shown = [f"{type(self).__name__} {self.name}: {self.state}"]
        shown += [f"{name}={summary.latest:g}" for name, summary in self.metrics.items()]
        return ", ".join(shown + [text for text in (self.artifact_uri, self.reason) if text])

    def _catch_up(self) -> None:
        for event in self.folder.events(self._read, logs=False):
            self._read = event.seq
            if isinstance(event, MetricReported):
                self._metrics[event.name] = MetricSummary.of(event.value, self._metrics.get(event.name))
            elif isinstance(event, ArtifactSaved):
                self._artifact_uri = event.uri
            elif isinstance(event, TrialChanged):
                self._trials[event.number] = event


class TrainingRun(Run):
    """A training run, with what ``--fetch`` brought back."""

    @property
    def fetched(self) -> dict[str, Any]:
        """The values that ``--fetch`` brought back, by name."""
        path = self.folder.path / "fetched.pkl"
        try:
            return dict(pickle.loads(path.read_bytes()))  # written by this user's own job
        except FileNotFoundError:
            return {}
        except Exception as error:  # a value's own code may raise anything
            raise ScriptError(
                f"the fetched values cannot be loaded here: {error}",
                "fetch data (numbers, arrays, tables), or have its class in a module that both sides import",
            ) from error


class Deployment(Run):
    """The deployment of an endpoint; its log is the server's."""

    _failure = DeploymentFailedError

    def log(self, lines: int | None = None) -> str:
        """Return the server's log, where its target keeps one.

        Args:
            lines: How many lines of its end; ``None`` for the whole.
        """
        target = self._context.target(self.target)
        if not isinstance(target, ServerLogs):
            return ""
        text = target.server_log(self.name)
        return text if lines is None else "\n".join(text.splitlines()[-lines:])

    @property
    def framework(self) -> str:
        """The model's framework by name, such as ``sklearn``; empty when it is unknown."""
        return self.record.endpoint.framework.value if self.record.endpoint is not None else ""

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that was deployed."""
        return open_endpoint(self._context, self.record.name)

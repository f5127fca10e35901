"""The loop of a study: asks the search, runs trials as jobs of a target, and reports their results to the search.

One thread, the caller's, owns everything; a thread for each running trial only follows its job and passes the events
on. Nothing here grows with the number of trials but what the search itself must remember.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import shutil
import string
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import Displayed, Event, LogWritten, MetricReported, Noted, StateChanged, TrialChanged
from kaptain_magics.core.pareto import BestTrials
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.errors import KaptainError
from kaptain_magics.targets.base import Target
from kaptain_magics.tuning.algorithms import make_search, make_stopper
from kaptain_magics.tuning.checks import check_study
from kaptain_magics.tuning.finish import StudyResult
from kaptain_magics.tuning.study_notes import NoteFilter, without_steps
from kaptain_magics.tuning.trial import Trial, same_but_for_numbers

_TICK = 0.1  # seconds between looks at ``stopping`` and the clock
_SAME_FAILURES = 2  # first trials that fail for the same reason end the study,
_DEFAULT_FAILED_TRIALS = 4  # unless more failures than by default are allowed
_STOP_TIMEOUT = 60.0  # seconds that stopped trials have to end
_ABANDON_TIMEOUT = 10.0  # the same after an error of this process
_MAX_RERUNS = 2  # times that a trial is run again whose job was lost by no fault of its script
_ALPHABET = string.ascii_lowercase + string.digits

_Message = tuple[Trial, Event | BaseException]


def run_study(
    spec: StudySpec,
    target: Target,
    *,
    emit: Callable[[Event], None],
    stopping: threading.Event,
    folder: Path,
    upload_base: str,
    earlier: Sequence[TrialChanged] = (),
) -> StudyResult:
    """Run a study to its end.

    Args:
        spec: The study.
        target: Runs the trials.
        emit: Takes ``TrialChanged`` and ``Noted`` events; called by this thread only.
        stopping: Ends the study when it is set; running trials are stopped.
        folder: The run's folder; trial n works in ``trials/n``.
        upload_base: The model's folder in the object store; a trial saves under ``trials/<study>/<trial>``.
        earlier: The trials of the study that this one goes on with, the last event of each.

    Returns:
        How it ended. Every trial that was started has ended by then.

    Raises:
        KaptainError: The study cannot be run at all; no trial was started.
    """
    check_study(spec)
    return _Loop(spec, target, emit, stopping, folder, upload_base).run(earlier)


class _Outcome(NamedTuple):
    state: RunState
    reason: str
    hint: str = ""


class _Loop:
    """A study that runs.

    It is in one of three states:

    * running: trials are started while the budget lasts. It ends when nothing runs and nothing is left to start.
    * ending (``_end`` is set by a goal, failures, a stop or the timeout): nothing is started, the trials that run are
      stopped. It ends when the last of them has said so, or ``_STOP_TIMEOUT`` later, when the rest counts as stopped.
    * abandoned (this process had an error): the same with ``_ABANDON_TIMEOUT``; the search learns nothing any more.

    Three clocks: ``_TICK`` bounds the wait for a trial's event, so that a stop is seen by then; ``_deadline`` is the
    study's timeout while it is running, and the end of ``_STOP_TIMEOUT`` while it is ending. A trial has no clock of
    its own: the job's timeout is the target's.
    """

    def __init__(
        self,
        spec: StudySpec,
        target: Target,
        emit: Callable[[Event], None],
        stopping: threading.Event,
        folder: Path,
        upload_base: str,
    ) -> None:
        self._spec, self._target, self._emit, self._stopping = spec, target, emit, stopping
        self._folder = folder / "trials"
        self._upload = f"{upload_base.rstrip('/')}/trials/{spec.name}"
        self._search = make_search(spec)
        self._stopper = make_stopper(spec)
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._running: dict[int, Trial] = {}
        self._next = 0
        self._budget = spec.trials
        self._best_trials = BestTrials(spec.deciding)
        self._counts: dict[TrialState, int] = {}
        self._ended = self._failed = 0  # trials of this run, not of the one that it goes on with
        self._failure = self._failure_before = self._hint = ""  # of the last failures
        self._notes = NoteFilter()
        self._steps_checked = False
        self._exhausted = False
        self._end: _Outcome | None = None
        self._deadline = time.monotonic() + (spec.timeout or float("inf"))

    def run(self, earlier: Sequence[TrialChanged]) -> StudyResult:
        for trial in sorted({t.number: t for t in earlier}.values(), key=lambda t: t.number):
            self._replay(trial)
        self._check_outcome()
        try:
            self._loop()
        except BaseException:
            self._abandon()
            raise
        end = self._end or self._outcome()
        return StudyResult(
            state=end.state,
            reason=end.reason,
            hint=end.hint,
            best=self._best,
            pareto=tuple(self._best_trials.trials) if self._spec.pareto else (),
            counts=self._counts,
        )

    def _replay(self, trial: TrialChanged) -> None:
        """Take over a trial of the study that this one goes on with."""
        if not trial.state.terminal:  # its supervisor was killed
            trial = msgspec.structs.replace(trial, state=TrialState.KILLED, reason="the study was interrupted")
        self._next = max(self._next, trial.number + 1)
        self._count(trial.state)
        self._budget -= trial.state is not TrialState.KILLED
        best = self._update_best(trial)
        self._search.tell(trial, self._observed_value(trial))
        self._emit(msgspec.structs.replace(trial, seq=0, cursor=0, best=best))

    def _loop(self) -> None:
        self._check_deadlines()
        while True:
            while self._may_start():
                self._start()
            if not self._running:
                return
            try:
                trial, event = self._inbox.get(timeout=_TICK)
            except queue.Empty:
                self._announce_pending()
            else:
                if isinstance(event, BaseException):
                    self._running.pop(trial.number, None)
                    raise event
                if self._running.get(trial.number) is trial:
                    self._take(trial, event)
            self._check_deadlines()

    def _may_start(self) -> bool:
        return (
            self._end is None and not self._exhausted and self._budget > 0 and len(self._running) < self._spec.parallel
        )

    def _start(self) -> None:
        parameters = self._search.ask(self._next)
        if parameters is None:
            self._exhausted = True
            return
        self._launch(self._next, parameters)
        self._next += 1
        self._budget -= 1

    def _launch(self, number: int, parameters: dict[str, Value], retries: int = 0) -> None:
        name = f"{self._spec.name}-{''.join(secrets.choice(_ALPHABET) for _ in range(8))}"
        job = msgspec.structs.replace(
            self._spec.job,
            name=name,
            phase="tune",
            trial=number,
            parallel=self._spec.parallel,
            folder=str(self._folder / str(number)),
            parameters={**self._spec.job.parameters, **parameters},
            upload_uri=f"{self._upload}/{name}",
            metric_names=self._spec.objectives,
        )
        trial = self._running[number] = Trial(
            number, parameters, job, self._spec.objectives, retries, len(self._spec.deciding)
        )
        threading.Thread(target=self._follow, args=(trial,), name=name, daemon=True).start()

    def _follow(self, trial: Trial) -> None:
        """Submit a trial's job and pass its events on; runs in the trial's own thread."""
        try:
            try:
                ref = trial.submit(self._target)
                if trial.halted.is_set():
                    self._target.stop(ref)
                for event in self._target.follow(ref):
                    if isinstance(event, Displayed):
                        trial.keep(event)
                    elif not isinstance(event, LogWritten):
                        self._inbox.put((trial, event))
                    elif event.text:
                        trial.write_log(event.text)
                lost = StateChanged(state=RunState.FAILED, reason=f"target {self._target.name} lost the job")
                self._inbox.put((trial, lost))  # not looked at where the job's end came
            except KaptainError as error:
                if trial.ref is not None:
                    with contextlib.suppress(KaptainError):
                        self._target.stop(trial.ref)
                self._inbox.put((trial, StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)))
        except BaseException as error:  # the caller's thread raises it
            self._inbox.put((trial, error))

    def _take(self, trial: Trial, event: Event) -> None:
        before = trial.state
        trial.take(event)
        if trial.state.terminal:
            self._finish(trial)
        elif trial.state is not before:
            self._emit(trial.changed())
        elif isinstance(event, Noted):
            self._pass_on(trial, event)
        elif isinstance(event, MetricReported) and not trial.halted.is_set():
            step = trial.intermediate(event)
            if self._stopper is not None and step is not None and self._stopper.report(trial.number, *step):
                self._halt(trial, TrialState.EARLY_STOPPED, f"stopped early at step {step[0]}")

    def _rerun(self, trial: Trial) -> None:
        """Run a trial again with the same values: its job was lost by no fault of its script."""
        if self._stopper is not None:
            self._stopper.end(trial.number, TrialState.KILLED, None)
        shutil.rmtree(trial.job.folder, ignore_errors=True)
        text = f"Trial {trial.job.name} is run again with the same values: {trial.reason}"
        self._pass_on(trial, Noted(text=text, warning=True))
        self._launch(trial.number, trial.parameters, trial.retries + 1)
        self._emit(self._running[trial.number].changed())

    def _finish(self, trial: Trial) -> None:
        if trial.lost and self._end is None and trial.retries < _MAX_RERUNS:
            self._rerun(trial)
            return
        if trial.lost and trial.retries:
            trial.reason += f" (the trial was run {trial.retries + 1} times)"
        del self._running[trial.number]
        changed = trial.changed()
        value = self._observed_value(changed)
        best = self._update_best(changed)
        self._search.tell(changed, value)
        if self._stopper is not None:
            self._stopper.end(trial.number, trial.state, value)
        self._count(trial.state)
        self._emit(trial.changed(best=best) if best else changed)
        self._check_steps(trial)
        self._ended += 1
        if trial.state is TrialState.FAILED:
            self._failed += 1
            self._failure_before, self._failure, self._hint = self._failure, trial.reason, trial.hint
        self._check_outcome()

    def _check_steps(self, trial: Trial) -> None:
        """Warn where the first trial gives a stopping rule nothing to go by."""
        if self._stopper is None or self._steps_checked or trial.state is not TrialState.SUCCEEDED:
            return
        self._steps_checked = True
        if trial.steps < 2:
            self._emit(without_steps(self._spec, trial.number))

    def _observed_value(self, trial: TrialChanged) -> float | None:
        """Return the value that the search and the stopping rule learn from an ended trial."""
        measured = trial.state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)
        return trial.latest(self._spec.objectives[0]) if measured else None

    def _update_best(self, trial: TrialChanged) -> bool:
        """Keep a succeeded trial where it is the best so far, or in the Pareto set; returns whether it is."""
        return self._best_trials.take(trial)

    @property
    def _best(self) -> TrialChanged | None:
        best = self._best_trials.best
        return None if best is None else msgspec.structs.replace(best, best=True)

    def _best_value(self) -> float | None:
        best = self._best_trials.best
        return None if best is None else best.latest(self._spec.objectives[0])

    def _count(self, state: TrialState) -> None:
        self._counts[state] = self._counts.get(state, 0) + 1

    def _check_outcome(self) -> None:
        """End the study when a trial's end decides it."""
        if self._end is not None:
            return
        spec, failed, value = self._spec, self._failed, self._best_value()
        if spec.goal is not None and value is not None and not spec.direction.better(spec.goal, value):
            self._end_study(RunState.SUCCEEDED, f"{spec.objectives[0]} reached the goal: {value:g}")
        elif failed >= max(spec.failed_trials, 1):
            what = "1 trial" if failed == 1 else f"{failed} trials"
            self._end_study(RunState.FAILED, f"{what} failed, the last one: {self._failure}", self._hint)
        elif (
            spec.failed_trials <= _DEFAULT_FAILED_TRIALS
            and self._best is None
            and failed == self._ended == _SAME_FAILURES
            and same_but_for_numbers(self._failure_before, self._failure)
        ):
            self._end_study(
                RunState.FAILED, f"the first {failed} trials failed in the same way: {self._failure}", self._hint
            )

    def _check_deadlines(self) -> None:
        """Look at the clocks: end the study at a stop or its timeout, and give up on trials that do not end."""
        if self._end is None and self._stopping.is_set():
            self._end_study(RunState.STOPPED, "the study was stopped")
        elif self._end is None and time.monotonic() > self._deadline:
            late = f"timed out after {self._spec.timeout:g} s"
            if self._best is None:
                self._end_study(
                    RunState.FAILED, f"{late} without a successful trial", "give it more time with --timeout"
                )
            else:
                self._end_study(RunState.SUCCEEDED, late)
        elif self._end is not None and time.monotonic() > self._deadline:
            for trial in list(self._running.values()):  # the target does not end them: do not wait for ever
                self._take(trial, StateChanged(state=RunState.STOPPED))

    def _end_study(self, state: RunState, reason: str, hint: str = "") -> None:
        self._end = _Outcome(state, reason, hint)
        self._deadline = time.monotonic() + _STOP_TIMEOUT
        self._halt_all(reason)

    def _halt_all(self, reason: str) -> None:
        for trial in self._running.values():
            if not trial.halted.is_set():
                self._halt(trial, TrialState.KILLED, reason)

    def _halt(self, trial: Trial, state: TrialState, reason: str) -> None:
        trial.halt(state, reason)
        if trial.ref is not None:  # else the trial's thread stops it as soon as it is submitted
            threading.Thread(target=self._stop, args=(trial,), daemon=True).start()

    def _stop(self, trial: Trial) -> None:
        assert trial.ref is not None
        try:
            self._target.stop(trial.ref)
        except KaptainError:
            pass  # the trial's own thread reports how it ended
        except BaseException as error:
            self._inbox.put((trial, error))

    def _abandon(self) -> None:
        """End what runs after an error of this process, as far as that is possible."""
        self._halt_all("the study ended with an error")
        until = time.monotonic() + _ABANDON_TIMEOUT
        while self._running and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                trial, event = self._inbox.get(timeout=_TICK)
                if isinstance(event, BaseException) or (isinstance(event, StateChanged) and event.state.terminal):
                    self._running.pop(trial.number, None)

    def _pass_on(self, trial: Trial, note: Noted) -> None:
        if self._notes.is_new(note, trial.job.name):
            self._emit(note)

    def _announce_pending(self) -> None:
        """Show trials that wait for their target; those that run at once are not worth an event."""
        for trial in self._running.values():
            if trial.state is TrialState.PENDING and not trial.announced:
                trial.announced = True
                self._emit(trial.changed())

    def _outcome(self) -> _Outcome:
        """Return how a study ended that nothing cut short."""
        done = sum(count for state, count in self._counts.items() if state is not TrialState.KILLED)
        if self._best is None:
            reason = f"no trial succeeded: {self._failure or 'none reported the objective'}"
            return _Outcome(RunState.FAILED, reason, self._hint)
        what = "every combination was tried" if self._exhausted else "all trials are done"
        return _Outcome(RunState.SUCCEEDED, f"{what}: {done}")

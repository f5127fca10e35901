"""A job of this process from its submission to its process: waiting for imports, stopping and timing out meanwhile."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError
from kaptain_magics.processes.environment_mark import run_mark
from kaptain_magics.processes.job_process import Process
from kaptain_magics.targets.local.beside_notebook import local_modules
from kaptain_magics.targets.local.imports import imported_packages

_TICK = 0.1  # seconds between looks at a start
_SLOW_START = 2.0  # seconds after which a job that still waits for its worker's imports says so


class StartedJob:
    """A job of this process: what ``follow`` and ``stop`` need."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.mark = run_mark(spec.run_id) + new_hex(16)
        self.process: Process | None = None
        self.stopping = False
        self.reason = self.hint = ""
        self.notes: list[Noted] = []  # for when it runs
        self.starting: threading.Thread | None = None
        self._error: BaseException | None = None
        self._limit = spec.timeout or float("inf")
        self._deadline = float("inf")

    def begin(self, start: Callable[[], Process]) -> None:
        """Start the process in a thread: it waits for what its worker imports, and may be stopped meanwhile.

        The time of a run counts from here, that of a trial from its script's start: all trials share the imports.
        """
        if self.spec.trial is None:
            self._deadline = time.monotonic() + self._limit

        def work() -> None:
            try:
                self.process = start()
            except KaptainError as error:
                self.reason, self.hint = error.message, error.hint
            except BaseException as error:  # raised again by who waits for it
                self._error = error
            if self.process is not None and self.stopping:  # ``stop`` may have come too early to see it
                self.process.kill(signal.SIGKILL)

        self.starting = threading.Thread(target=work, name=f"start {self.spec.name}", daemon=True)
        self.starting.start()

    def await_start(self) -> Iterator[Event]:
        """Wait until the job has started or is given up; yields a line where the imports take long."""
        note_at = time.monotonic() + _SLOW_START
        while self.starting is not None and self.starting.is_alive():
            self.starting.join(_TICK)
            if time.monotonic() > note_at and self.starting.is_alive():
                note_at = float("inf")
                names = ", ".join(self._imports())
                if names:
                    yield Noted(text=f"The warm worker is importing {names}.")
        if self._error is not None:
            raise self._error

    def _imports(self) -> list[str]:
        """Return the packages that a worker imports for the job: not the script's own modules."""
        own = local_modules(self.spec)
        return [name for name in imported_packages(self.spec.script.source) if name not in own]

    def count_time(self) -> None:
        """Begin to count a trial's time: its process runs now."""
        if self.spec.trial is not None:
            self._deadline = time.monotonic() + self._limit

    @property
    def overdue(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() > self._deadline

    def cancelled(self) -> bool:
        """Whether a job that has not started yet never shall."""
        return self.stopping or self.overdue

    def never_started(self) -> StateChanged:
        """Return how a job has ended that has no process."""
        if self.stopping:
            return StateChanged(state=RunState.STOPPED, reason="stopped")
        if self.overdue:
            return self.timed_out()
        return StateChanged(state=RunState.FAILED, reason=self.reason, hint=self.hint)

    def timed_out(self, code: int | None = None) -> StateChanged:
        """Return how a job has ended whose time is up."""
        names = ", ".join(self._imports()) if self.process is None else ""
        return StateChanged(
            state=RunState.FAILED,
            reason=f"timed out after {self.spec.timeout:g} s" + (f", while importing {names}" if names else ""),
            hint="give it more time with --timeout",
            exit_code=code,
        )

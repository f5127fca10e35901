"""A run's events as lines of the contract's logger, and a study's progress in place.

The events are folded by ``views.fold`` and formatted as the views do; only what is printed, and that it goes through a
logger that a user may configure, is the contract's own.
"""

from __future__ import annotations

import logging
import sys
import time

from kaptain_magics.core.events import AnyEvent, EndpointChanged, LogWritten, Noted, StateChanged, TrialChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.model.runs import Run
from kaptain_magics.views.fold import StudyView, view_of
from kaptain_magics.views.lines import LogTail
from kaptain_magics.views.live import status_here
from kaptain_magics.views.text import StudyProgress

_INTERVAL = 0.25  # seconds between two drawings of a study's progress at least


class Reporter:
    """Logs the events of one run.

    Args:
        run: The run.
        log: The logger.
        verbose: Whether the job's own log is printed; a study has none but its trials'.
    """

    def __init__(self, run: Run, log: logging.Logger, verbose: bool) -> None:
        self._run = run
        self._view = view_of(run, LogTail(lines=5000, width=10_000, colours=sys.stdout.isatty()))
        self._verbose = verbose and not isinstance(self._view, StudyView)
        self._progress = StudyProgress(status_here(sys.stdout))
        self._log = log
        self._log_started = False
        self._due = 0.0

    def report(self, event: AnyEvent | None) -> None:
        """Take the next event, or ``None`` where none came for a while."""
        if isinstance(event, Noted):
            self._end_line()
        before = self._view.log.total
        if event is not None:
            self._view.take(event)
        match event:
            case Noted():
                self._write(logging.WARNING if event.warning else logging.INFO, f"{event.text} {event.hint}".strip())
            case StateChanged(state=RunState.FAILED | RunState.STOPPED):
                reason = f"{event.state}: {event.reason}".rstrip(": ")
                self._write(logging.ERROR, f"{self._run.name} {reason}. {event.hint}")
            case EndpointChanged():
                self._print(before)
            case LogWritten() if self._verbose:
                self._print_log(before)
            case TrialChanged() | None:
                self._draw()

    def finish(self) -> None:
        """End the progress line, and a line of the log that has no end."""
        if isinstance(self._view, StudyView):
            self._progress.keep(self._view)
        self._end_line()

    def _end_line(self) -> None:
        """Print the start of a line that the job has not ended yet: a message of ours follows."""
        if self._verbose and self._view.log.open_line:
            sys.stdout.write(f"{self._view.log.open_line}\n")

    def _write(self, level: int, message: str) -> None:
        if isinstance(self._view, StudyView):
            self._progress.make_room(self._view)
        self._log.log(level, message)

    def _print_log(self, before: int) -> None:
        if not self._log_started:
            self._log_started = True
            self._log.info("[%s/%s] logs:", self._run.name, self._run.framework)
        self._print(before)

    def _print(self, before: int) -> None:
        """Print the lines that came after the first ``before`` ones, without the blank ones."""
        missing, lines = self._view.log.since(before)
        if missing:
            lines = [f"… {missing} lines are not shown here …", *lines]
        sys.stdout.write("".join(f"{line}\n" for line in lines if line.strip()))

    def _draw(self) -> None:
        if isinstance(self._view, StudyView) and time.monotonic() >= self._due:
            self._progress.show(self._view)
            self._due = time.monotonic() + _INTERVAL

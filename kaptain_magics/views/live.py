"""Following a run: events in, at most four drawings a second out, one lasting picture at the end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from kaptain_magics.core.events import AnyEvent
from kaptain_magics.errors import KaptainError
from kaptain_magics.views import text
from kaptain_magics.views.base import Followable, Mode
from kaptain_magics.views.fold import RunView, view_of
from kaptain_magics.views.lines import LogTail

_TICK = 0.1  # seconds after which the stream of events lets the renderer draw
_FIRST = 0.2  # seconds that a run may take to end before it is drawn at all
_BUDGET = 2000  # lines of log printed into a notebook at most
_BROWSERS = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")


class Renderer(Protocol):
    """Draws a run's view in one way. ``interval`` is the least number of seconds between two drawings."""

    interval: float

    def draw(self, view: RunView) -> None:
        """Show the run as it is now."""

    def finish(self, view: RunView) -> None:
        """Show the run for the last time, in a form that lasts."""


def in_notebook() -> bool:
    """Whether an IPython kernel runs this, so that rich output has somewhere to go."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def mode_here() -> Mode:
    """Return the way of drawing that suits where this runs; ``KAPTAIN_VIEW`` names another for notebooks.

    A widget needs a browser: kernels that a notebook server or an editor started have one, those of nbclient do not.
    """
    if not in_notebook():
        return Mode.TEXT
    chosen = os.environ.get("KAPTAIN_VIEW", "")
    if chosen in list(Mode):
        return Mode(chosen)
    return Mode.WIDGET if any(name in os.environ for name in _BROWSERS) else Mode.HTML


def follow(run: Followable, *, mode: Mode | None = None, interrupted: Callable[[], None] | None = None) -> None:
    """Show a run until it has ended.

    Args:
        run: The run.
        mode: How to draw it; ``None`` decides by ``mode_here``.
        interrupted: Called when the reader interrupts; where it is given (to stop the run), the run is shown on until
            its end, and then the interrupt goes on. Without it the interrupt ends the view and leaves the run alone.

    Raises:
        KeyboardInterrupt: The reader interrupted.
    """
    follower = _Follower(run, mode or mode_here())
    try:
        follower.to_the_end()
    except KeyboardInterrupt:
        if interrupted is not None:
            interrupted()
            follower.to_the_end()
        raise
    finally:
        follower.finish()


def watch(run: Followable, *, mode: Mode | None = None) -> None:
    """Show a run and return at once; a notebook's output stays live until the run's end.

    Nothing is printed after the return: where only text is shown, it ends with the line that shows the run again.
    """
    follower = _Follower(run, mode or mode_here())
    follower.catch_up()
    if follower.ended or follower.mode is Mode.TEXT:
        follower.finish()
        return
    follower.renderer.draw(follower.view)
    threading.Thread(target=follower.in_background, name=f"kaptain-watch-{run.run_id}", daemon=True).start()


def show_result(run: Followable, *, mode: Mode | None = None) -> None:
    """Show a run as it is now: an ended run in its final form, another in its state so far."""
    follower = _Follower(run, mode or mode_here())
    follower.catch_up()
    follower.finish()


class _Follower:
    def __init__(self, run: Followable, mode: Mode) -> None:
        self._run = run
        self._seq = 0
        self._due = time.monotonic() + _FIRST
        self.mode = mode
        self.renderer, tail = _renderer(mode)
        self.view = view_of(run, tail)

    @property
    def ended(self) -> bool:
        return self.view.state.terminal

    def catch_up(self) -> None:
        """Take the events that are there now."""
        for event in self._run.follow(self._seq, 0.0):
            if event is None:
                return
            self._take(event)

    def to_the_end(self) -> None:
        """Take and draw events as they come; an ended run has none any more, though its tracker may be waited for."""
        if self.ended:
            return
        for event in self._run.follow(self._seq, _TICK):
            if event is not None:
                self._take(event)
            if time.monotonic() >= self._due:
                self.renderer.draw(self.view)
                self._due = time.monotonic() + self.renderer.interval

    def in_background(self) -> None:
        """Do the same in a thread, where errors are dropped: a run that was removed simply ends the view."""
        try:
            self.to_the_end()
        except KaptainError:
            pass
        finally:
            self.finish()

    def finish(self) -> None:
        """Draw for the last time."""
        self.renderer.finish(self.view)

    def _take(self, event: AnyEvent) -> None:
        self._seq = event.seq
        self.view.take(event)


def status_here(out: TextIO) -> text.Status:
    """Return a line that is replaced in place, as it can be done where ``out`` is written to."""
    if in_notebook():
        from kaptain_magics.views.notebook import CellStatus

        return CellStatus()
    return text.TerminalStatus(out) if out.isatty() else text.PlainStatus(out)


def _renderer(mode: Mode) -> tuple[Renderer, LogTail]:
    """Return a renderer, and the tail of the log that it needs."""
    out = sys.stdout
    if mode is Mode.TEXT and not in_notebook():
        return text.TextRenderer(out, status_here(out)), LogTail(lines=5000, width=10_000, colours=out.isatty())
    if mode is Mode.TEXT:
        return text.TextRenderer(out, status_here(out), _BUDGET), LogTail()

    from kaptain_magics.views import notebook

    return (notebook.WidgetRenderer() if mode is Mode.WIDGET else notebook.HtmlRenderer()), LogTail()

"""The supervisor's process: ``python -m kaptain_magics.supervisor.main RUN_FOLDER``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from kaptain_magics.config import Settings
from kaptain_magics.core.events import StateChanged
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.errors import KaptainError, StateError
from kaptain_magics.files import write_whole
from kaptain_magics.processes.forked import LOCK_VARIABLE
from kaptain_magics.state import RunFolder
from kaptain_magics.supervisor.run_context import RunContext


def main(arguments: list[str]) -> int:
    """Supervise the run in the folder that is the one argument; returns when it has ended."""
    folder = RunFolder(Path(arguments[0]))
    handed = os.environ.pop(LOCK_VARIABLE, "")
    if handed:
        folder.lock.adopt(int(handed))
    elif not folder.lock.acquire():
        return 0  # another process does it
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        write_whole(folder.path / "supervisor.pid", str(os.getpid()).encode())
    except StateError as error:
        _write_end(folder, StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint))
        return 1
    settings = Settings.load(folder.record.settings)
    context = RunContext(folder, settings, stopping)
    if folder.last_state().state.terminal:  # the supervisor before this one was killed
        from kaptain_magics.supervisor.study_run import finish_dead

        finish_dead(context)
        return 0
    tracker = None
    if settings.tracking_uri and folder.record.kind is not RunKind.DEPLOY:
        from kaptain_magics.supervisor.tracked_run import Tracker

        tracker = Tracker(context)
        tracker.start()
    last = _supervise(context)
    _write_end(folder, last)
    if tracker is not None:
        tracker.finish()
    folder.lock.release()
    return 0


def _write_end(folder: RunFolder, last: StateChanged) -> None:
    """Write the run's last state; on a full disk a short line may still fit where a long one does not."""
    try:
        folder.append(last)
    except StateError as error:
        with contextlib.suppress(StateError):
            folder.append(StateChanged(state=RunState.FAILED, reason=error.message.rpartition(": ")[2]))


def _supervise(context: RunContext) -> StateChanged:
    try:
        if context.record.kind is RunKind.TRAIN:
            from kaptain_magics.supervisor import training_run as work
        elif context.record.kind is RunKind.TUNE:
            from kaptain_magics.supervisor import study_run as work  # type: ignore[no-redef]
        else:
            from kaptain_magics.supervisor import deployment_run as work  # type: ignore[no-redef]
        return work.run(context)
    except KaptainError as error:
        return StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)
    except Exception as error:  # a fault of ours must still end the run, with its reason
        with contextlib.suppress(OSError):  # the disk may be full
            traceback.print_exc()
        return StateChanged(
            state=RunState.FAILED,
            reason=f"kaptain_magics itself failed: {type(error).__name__}: {error}",
            hint=f"please report it with {context.folder.path / 'supervisor.log'}",
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

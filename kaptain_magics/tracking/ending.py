"""The reader's side of tracking: a run that has ended is waited for until its tracker has logged it.

The tracker logs when all is done, by the run's supervisor, which holds the run's lock until then. So what comes
after the run, such as ``mlflow.search_runs`` in the next cell, finds it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from kaptain_magics.core.events import Noted
from kaptain_magics.core.states import RunKind
from kaptain_magics.files import write_whole
from kaptain_magics.state import RunFolder

_TIMEOUT = 30.0  # seconds; MLflow's import and a new database take about five
_FILE = "tracking.json"


def is_tracked(folder: RunFolder) -> bool:
    """Whether a tracker logs the run."""
    return bool(folder.record.settings.get("tracking_uri")) and folder.record.kind is not RunKind.DEPLOY


def note(folder: RunFolder, warning: Noted) -> None:
    """Write down, behind the run's last event, that the tracker could not log the run."""
    write_whole(folder.path / _FILE, msgspec.json.encode(msgspec.structs.replace(warning, time=time.time())))


def follow_tracking(folder: RunFolder, tick: float | None = None) -> Iterator[Noted | None]:
    """Wait until the tracker has logged an ended run.

    Args:
        folder: The run.
        tick: Yield ``None`` every so many seconds, so that the caller can look up.

    Yields:
        A warning where the tracker could not log the run, or has not done so yet.
    """
    if not is_tracked(folder):
        return
    # Two clocks: `until`, when waiting is given up; `ticked`, when the caller last had a turn.
    until = time.monotonic() + _TIMEOUT
    ticked = time.monotonic()
    while folder.lock.held_by_other():
        now = time.monotonic()
        if now > until:
            text = "MLflow has not logged the run yet; logging continues in the background"
            yield Noted(text=text, warning=True, time=time.time())
            return
        if tick is not None and now - ticked >= tick:
            ticked = now
            yield None
        time.sleep(0.02)
    try:
        yield msgspec.json.decode((folder.path / _FILE).read_bytes(), type=Noted)
    except FileNotFoundError:
        return

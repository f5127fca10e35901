"""The live card: a widget that gets only what changed.

The card's state is a set of small named parts: ``head``, ``body``, one per trial, one per block of log lines. A drawing
sends the parts that differ as the widgets' own ``update`` message, so that a front end that loads late, or loads again,
finds the whole state in the widget's model, and nothing has to be asked of a kernel that may be busy.
"""

from __future__ import annotations

import time
from typing import Any

import anywidget
import msgspec

from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.states import TrialState
from kaptain_magics.views import displays, html, picture
from kaptain_magics.views.fold import RunView, StudyView
from kaptain_magics.views.formats import clip

_BLOCK = 20  # lines of a block of the log
_BLOCKS = 10  # blocks that the front end shows
_REASON = 300  # characters of a trial's reason


class Card(anywidget.AnyWidget):  # type: ignore[misc]  # anywidget is not typed for mypy here
    """The widget that shows one run.

    Attributes:
        parts: Everything that a front end must know to draw the card, by name.
    """

    _esm = html.static("card.js")
    _css = html.static("card.css")

    def __init__(self, parts: dict[str, Any]) -> None:
        self.parts = parts
        self._updates = 0
        super().__init__()

    def close(self) -> None:
        """Let the widget go, with the layout that every widget has."""
        self.layout.close()
        super().close()

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the widget's state; a front end that asks for all of it gets the parts and the kernel's time too."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        return state if key is not None else state | self.parts | {"now": time.time()}

    def push(self, parts: dict[str, Any]) -> None:
        """Send the parts that differ from what the front end has."""
        changed = {name: value for name, value in parts.items() if self.parts.get(name) != value}
        if not changed:
            return
        self.parts |= changed
        self._updates += 1
        state = changed | {"news": [self._updates, list(changed)]}
        self.comm.send(data={"method": "update", "state": state, "buffer_paths": []})


class CardDiff:
    """Finds the parts of a view that may have changed since the last call."""

    def __init__(self) -> None:
        self._lines = 0

    def parts(self, view: RunView) -> dict[str, Any]:
        """Return the parts by name, as values that JSON can hold."""
        parts: dict[str, Any] = {"head": html.head(view, view.started), "body": "".join(html.body(view, live=True))}
        parts |= self._log(view) | _shown(view)
        if isinstance(view, StudyView):
            parts |= _study(view)
        return parts

    def _log(self, view: RunView) -> dict[str, Any]:
        total = view.log.total
        newest = total // _BLOCK
        oldest = max(0, newest - _BLOCKS + 1)
        parts: dict[str, Any] = {}
        for block in range(max(self._lines // _BLOCK, oldest), newest + 1):
            missing, lines = view.log.since(block * _BLOCK)
            parts[f"b{block % _BLOCKS}"] = [block, [] if missing >= _BLOCK else lines[: _BLOCK - missing]]
        self._lines = total
        return parts | {"log": [newest, view.log.open_line, html.log_summary(view, total - oldest * _BLOCK)]}


def _shown(view: RunView) -> dict[str, Any]:
    """Return what the script shows: the HTML of each by number, and which are shown in what order."""
    shown = list(displays.parts(view))
    return {"shown": [event.seq for event, _ in shown], **{f"s{event.seq}": part for event, part in shown}}


def _study(view: StudyView) -> dict[str, Any]:
    frame = picture.frame_of(view)
    parts: dict[str, Any] = {
        "study": {
            "heads": html.trial_heads(view),
            "objective": view.objective,
            "direction": str(view.direction),
            "best": -1 if view.best is None else view.best.number,
            "count": max(view.trials, default=-1) + 1,
        },
        "frame": None if frame is None else msgspec.to_builtins(frame),
    }
    parts |= {f"t{number}": _row(view, view.trials[number]) for number in view.changed}
    view.changed.clear()
    return parts


def _row(view: StudyView, trial: TrialChanged) -> list[Any]:
    value = view.value(trial) if trial.state is TrialState.SUCCEEDED else None
    *cells, reason = html.trial_cells(view, trial)
    return [value, trial.name, *cells, clip(reason, _REASON)]

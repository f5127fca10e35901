"""The renderers of a notebook: a card that is replaced as a whole, and a live widget that ends as that card."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from kaptain_magics.views import displays, html, text
from kaptain_magics.views.fold import RunView

if TYPE_CHECKING:
    from kaptain_magics.views.widget import Card, CardDiff


_CARDS = 8  # widgets of ended runs that stay open
_ended: deque[Card] = deque()


class CellOutput:
    """One output of a cell, which can be replaced from anywhere, a thread included."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, bundle: dict[str, Any]) -> None:
        """Show the bundle, in place of the last one."""
        from IPython.display import display

        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def bundle(view: RunView, now: float) -> dict[str, Any]:
    """Return a run's card and its text for front ends that show one or the other."""
    return {"text/plain": text.card(view, now), "text/html": html.card(view, now)}


class HtmlRenderer:
    """A card without script, replaced once a second."""

    interval = 1.0  # seconds; one more for every quarter of a MiB that is shown

    def __init__(self) -> None:
        self._output = CellOutput()

    def draw(self, view: RunView) -> None:
        """Show the card as it is now."""
        self.interval = 1.0 + sum(event.size for event in view.displays.values()) / (256 * 1024)
        self._output.show(bundle(view, time.time()))

    def finish(self, view: RunView) -> None:
        """Show the card that stays, and below it the charts that only the front end can draw."""
        self._output.show(bundle(view, time.time()))
        if threading.current_thread() is threading.main_thread():  # else it would land in another cell
            for chart in displays.bundles(view):
                CellOutput().show(chart)


class WidgetRenderer(HtmlRenderer):
    """A widget that gets what is new, four times a second at most, and ends as the card without script."""

    interval = 0.25

    def __init__(self) -> None:
        super().__init__()
        self._card: Card | None = None
        self._diff: CardDiff | None = None
        self._drawn = -1

    def draw(self, view: RunView) -> None:
        """Send what is new to the widget."""
        if view.version == self._drawn:
            return
        self._drawn = view.version
        if self._card is None or self._diff is None:
            from kaptain_magics.views.widget import Card, CardDiff

            self._diff = CardDiff()
            self._card = Card(self._diff.parts(view))
            reference = {"version_major": 2, "version_minor": 0, "model_id": self._card.model_id}
            shown = bundle(view, time.time())
            self._output.show(shown | {"application/vnd.jupyter.widget-view+json": reference})
        else:
            self._card.push(self._diff.parts(view))

    def finish(self, view: RunView) -> None:
        """Replace the widget by the card that stays."""
        super().finish(view)
        if self._card is not None and self._diff is not None:
            self._card.push(self._diff.parts(view))
            _retire(self._card)


def _retire(card: Card) -> None:
    """Keep an ended run's card for a page that was loaded again meanwhile, and let go of an older one."""
    _ended.append(card)
    if len(_ended) > _CARDS:
        _ended.popleft().close()


class CellStatus:
    """The line that is replaced in place, as an output of its own in the cell."""

    def __init__(self) -> None:
        self._output = CellOutput()
        self._shown = ""

    def show(self, line: str) -> None:
        """Replace the line; nothing is sent where it is the same."""
        if line != self._shown:
            self._shown = line
            self._output.show({"text/plain": line})

    def clear(self) -> None:
        """Do nothing: printed lines go to another output."""

    def keep(self, line: str) -> None:
        """Show the line for the last time."""
        self.show(line)

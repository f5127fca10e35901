"""What a script has shown, as parts of a card: pictures embedded, tables as HTML, everything else as text."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from kaptain_magics.core.events import Displayed
from kaptain_magics.views.fold import RunView
from kaptain_magics.views.formats import size
from kaptain_magics.views.sanitize import sanitized

_EMBEDDED = 12 << 20  # bytes of files that a card embeds; a saved notebook should open quickly
_HTML = "text/html"


def parts(view: RunView) -> Iterator[tuple[Displayed, str]]:
    """Yield what is shown with its HTML; each is made once."""
    drawn = view.drawn
    left = _EMBEDDED
    for event in view.displays.values():
        left -= event.size
        if event.seq not in drawn:
            drawn[event.seq] = _part(view, event, embedded=left >= 0)
        yield event, drawn[event.seq]
    for seq in drawn.keys() - {event.seq for event in view.displays.values()}:
        del drawn[seq]


def section(view: RunView) -> str:
    """Return all that is shown, as one part of a card."""
    shown = "".join(part for _, part in parts(view))
    return f'<div class="kpt-shown">{shown}</div>' if shown else ""


def bundles(view: RunView) -> Iterator[dict[str, Any]]:
    """Yield the charts that only a front end can draw, as outputs of their own."""
    for event in view.displays.values():
        if event.mime.endswith("+json") and (path := view.path_of(event)) is not None:
            try:
                yield {event.mime: msgspec.json.decode(path.read_bytes()), "text/plain": event.text}
            except (OSError, msgspec.MsgspecError):
                continue


def _part(view: RunView, event: Displayed, embedded: bool) -> str:
    path = view.path_of(event)
    if path is None:
        return f"<pre>{escape(event.text)}</pre>"
    try:
        return _content(event, path) if embedded else _named(event, path)
    except OSError:
        return f"<pre>{escape(event.text)}\n{escape(str(path))} is not there any more</pre>"


def _content(event: Displayed, path: Path) -> str:
    if event.mime == _HTML:
        return html_part(path.read_text("utf-8", "replace"))
    if event.mime.startswith("image/"):
        data = base64.b64encode(path.read_bytes()).decode()
        return f'<img src="data:{event.mime};base64,{data}" alt="{escape(event.text)}" title="{escape(str(path))}">'
    return _named(event, path)


def html_part(page: str) -> str:
    """Return HTML of a script for a card: made safe, or where only its scripts would draw something, in a frame.

    The frame is a page of its own, which cannot reach the notebook: animations and maps run in it.
    """
    safe = sanitized(page)
    if "<script" in page.lower() and "<table" not in safe and 'class="sk-' not in safe:
        return f'<iframe sandbox="allow-scripts" class="kpt-frame" title="HTML" srcdoc="{escape(page)}"></iframe>'
    return f'<div class="kpt-html">{safe}</div>'


def _named(event: Displayed, path: Path) -> str:
    return f"<p>{escape(event.text)} <code>{escape(str(path))}</code> <small>{size(event.size)}</small></p>"

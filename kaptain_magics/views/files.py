"""A run's files: their list, and one of them to look at."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.views.displays import html_part
from kaptain_magics.views.formats import size
from kaptain_magics.views.tables import publish, show_table, show_text

if TYPE_CHECKING:
    from kaptain_magics.model.run_files import RunFile

_ROWS = 100  # files of the list
_TEXT = 256 * 1024  # bytes of a text that are shown
_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}


def show_files(files: Sequence[RunFile], run_id: str) -> None:
    """Show the list of a run's files; nothing where there is none."""
    if not files:
        return
    rows = [
        ("shown" if file.shown else "written", file.name, size(file.size), str(file.path)) for file in files[:_ROWS]
    ]
    show_table(("", "file", "size", "where"), rows, len(files), "")
    name = next((file.name for file in files if not file.shown), files[0].name)
    line = f"%kaptain show {run_id} {name}"
    publish(f"{line} shows one of them", f"<p><code>{escape(line)}</code> shows one of them.</p>")


def show_file(path: Path) -> None:
    """Show a picture, HTML or the beginning of a text; of any other file where it is."""
    weight = path.stat().st_size
    suffix = path.suffix.lower()
    place = f"{path} ({size(weight)})"
    if suffix in _PICTURES:
        source = f"data:{_PICTURES[suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
        publish(place, f'<div class="kpt-shown"><img src="{source}" alt="{escape(place)}"></div>')
        return
    with open(path, "rb") as file:
        data = file.read(_TEXT)
    if b"\0" in data:
        publish(f"{place} is not a text", f"<p><code>{escape(place)}</code> is not a text</p>")
    elif suffix in (".html", ".htm") and len(data) == weight:
        text = data.decode("utf-8", "replace")
        publish(place, f'<div class="kpt-shown">{html_part(text)}</div>')
    else:
        more = f"\n… the first {size(_TEXT)} of {place}" if len(data) < weight else ""
        show_text(data.decode("utf-8", "replace") + more)

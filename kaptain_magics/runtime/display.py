"""What a script shows: ``display``, figures and the cell's last expression go through the job's channel.

A notebook shows a script's figures in the view of its run. They travel in pieces of base64, as lines of the channel do
on every target, so a pod needs no other way out. What is sent is bounded, for a pod's log is: the kubelet keeps 10 MiB.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import zlib
from typing import Any

from kaptain_magics.runtime.channel import emit
from kaptain_magics.runtime.mime import HTML, PNG, TEXT, Shown, form_of, form_of_bundle, is_plotly
from kaptain_magics.runtime.pieces import channel_kind, send

_MIB = 1 << 20
_LIMITS = {"file": (8 * _MIB, 48 * _MIB), "stdout": (_MIB, 4 * _MIB)}  # bytes of one, and of all
_TRIAL = 4  # a trial may send this fraction: there are many of them
_LARGEST_HTML = 512 * 1024  # bytes; of a larger table its text is shown
_WHAT = {TEXT: "a text", HTML: "a table", PNG: "a figure"}
_COUNT = 200  # things shown at most; a figure that replaces another counts again only in bytes
_HOLD = 1.0  # seconds between two pictures that replace each other, twice as long with every twelfth of the bytes


class Sender:
    """Sends what is shown, within the limits of the channel."""

    def __init__(self) -> None:
        share = _TRIAL if os.environ.get("KAPTAIN_TRIAL") else 1
        one, total = _LIMITS.get(channel_kind(), (0, 0))
        self._one, self._left = one // share, total // share
        self._total = max(1, self._left)
        self._count = 0
        self._clear = False
        self._cleared_at = 0.0
        self._held: list[tuple[str, Shown]] = []
        self._held_clear = False
        self._full = False
        self._pid = os.getpid()
        self._lock = threading.RLock()

    def show(self, shown: Shown, name: str = "") -> str:
        """Show something; ``name`` replaces what was shown under it. Returns its name."""
        with self._lock:
            if self._clear:
                self._clear, self._count, self._held = False, 0, []
                self._held_clear = True
            if not name:
                self._count += 1
            own = f"-{os.getpid()}" if os.getpid() != self._pid else ""
            key = name or f"{self._count}{own}"
            interval = _HOLD * 2.0 ** int(12 * (1 - self._left / self._total))
            if self._held_clear and time.monotonic() - self._cleared_at < interval:
                self._held.append((key, shown))  # the next one will most likely replace it
            else:
                self.flush()
                self._send(key, shown)
            return key

    def clear(self) -> None:
        """Let what is shown next replace everything before, as ``clear_output`` does."""
        with self._lock:
            self._clear = True

    def flush(self) -> None:
        """Send what was held back."""
        with self._lock:
            held, self._held = self._held, []
            for key, shown in held:
                self._send(key, shown)

    def _send(self, key: str, shown: Shown) -> None:
        clears, self._held_clear = self._held_clear, False
        if clears:
            self._cleared_at = time.monotonic()
        why = self._refusal(shown)
        if why:
            hint = "save it to a file, such as with plt.savefig, or draw it smaller (figsize, dpi)"
            emit({"kind": "note", "text": f"{_WHAT.get(shown.mime, 'a chart')} {why}", "warning": True, "hint": hint})
        data = b"" if why is not None else shown.data
        if why is not None and shown.mime.startswith("image/"):
            return
        self._left -= len(data)
        send("display", key, data, mime=shown.mime if data else TEXT, text=shown.text, clears=clears)

    def _refusal(self, shown: Shown) -> str | None:
        """Return why something is not shown; empty where that has been said already, ``None`` where it is shown."""
        size, limit = len(shown.data), min(self._one, _LARGEST_HTML) if shown.mime == HTML else self._one
        if size > limit:
            return f"of {size / _MIB:.1f} MiB is not shown: the limit is {limit / _MIB:g} MiB"
        if size <= self._left and self._count <= _COUNT:
            return None
        known, self._full = self._full, True
        most = f"{self._total / _MIB:g} MiB, or {_COUNT} figures and tables"
        return "" if known else f"is not shown, and none after it: a script can show {most} in all"


_sender: list[Sender] = []
_making = threading.Lock()


def sender() -> Sender:
    """Return the one sender of this job."""
    with _making:
        if not _sender:
            _sender.append(Sender())
        return _sender[0]


class DisplayHandle:
    """What ``display(…, display_id=…)`` returns: it can show another value in the same place."""

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = display_id or f"d{os.urandom(6).hex()}"

    def display(self, value: Any, **options: Any) -> None:
        """Show a value in this place, instead of the one there."""
        display(value, display_id=self.display_id, **options)

    update = display

    def __repr__(self) -> str:
        return f"<DisplayHandle display_id={self.display_id}>"


def display(
    *values: Any, display_id: str | bool | None = None, raw: bool = False, clear: bool = False, **_options: Any
) -> DisplayHandle | None:
    """Show values in the run's view, as ``IPython.display.display`` shows them in a notebook.

    Args:
        *values: Any values; with ``raw``, bundles of content by MIME type.
        display_id: Name of the place, where it is to be shown again; ``True`` makes one up.
        raw: Whether the values are bundles.
        clear: Whether it replaces all that was shown before.

    Returns:
        A handle to update it, where there is a ``display_id``.
    """
    if clear:
        clear_output()
    handle = DisplayHandle(display_id if isinstance(display_id, str) else None) if display_id else None
    for value in values:
        own = getattr(value, "_ipython_display_", None)
        if not raw and callable(own) and not isinstance(value, type) and not is_plotly(value):
            own()
            continue
        show_form(form_of_bundle(value) if raw else form_of(value), handle)
    return handle


def show_form(shown: Shown, handle: DisplayHandle | None = None) -> None:
    """Show a value's form; outside a job its text is printed."""
    if not os.environ.get("KAPTAIN_CHANNEL"):
        sys.stdout.write(f"{shown.text}\n")
        return
    name = ""
    if handle is not None:
        safe = "".join(c if c.isascii() and c.isalnum() else "-" for c in handle.display_id)
        name = (
            safe if safe == handle.display_id and len(safe) <= 40 else f"d{zlib.crc32(handle.display_id.encode()):08x}"
        )
    sys.stdout.flush()  # what was printed before it stands before it
    sender().show(shown, name)


def update_display(value: Any, *, display_id: str, **options: Any) -> None:
    """Show a value in the place of what was shown under ``display_id``."""
    display(value, display_id=display_id, **options)


def clear_output(wait: bool = False) -> None:  # noqa: ARG001 - IPython's signature
    """Let what is shown next replace what was shown so far; both values of ``wait`` mean the same here."""
    if os.environ.get("KAPTAIN_CHANNEL"):
        sender().clear()


def show_value(value: Any) -> None:
    """Show the value of a cell's last expression; nothing for ``None`` and for what is drawn as a figure anyway."""
    if value is None or _drawn(value):
        return
    display(value)
    if _is_figure(value) and "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(value)  # else it would be shown again at the end


def _is_figure(value: Any) -> bool:
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.Figure)


def _drawn(value: Any) -> bool:
    """Whether a value is what matplotlib's own functions return: lines, axes, bars, or several of them."""
    artist = sys.modules.get("matplotlib.artist")
    if artist is None:
        return False
    if isinstance(value, artist.Artist):
        return not _is_figure(value)
    if type(value).__module__.startswith(("matplotlib.", "seaborn.")):
        return True
    items = getattr(value, "flat", value if isinstance(value, list | tuple) else None)
    first = next(iter(items), None) if items is not None else None
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return first is not None and (isinstance(first, artist.Artist) or type(first).__module__.startswith("matplotlib."))


def show_figures() -> None:
    """Show the open figures of matplotlib in the order in which they were made, and close them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        if figure.get_axes() or figure.texts or figure.images:
            display(figure)
    pyplot.close("all")


def finish() -> None:
    """Show the figures that are still open, and what was held back."""
    show_figures()
    if _sender:
        sender().flush()

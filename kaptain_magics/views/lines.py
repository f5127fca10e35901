"""The end of a program's output: whole lines, bounded, safe to show."""

from __future__ import annotations

import re
from collections import deque
from itertools import islice

from kaptain_magics.core.colours import COLOURS
from kaptain_magics.views.formats import clip

# Escape sequences of terminals: CSI (colours, cursor), OSC (titles, links), and the short ones.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_OPEN_AT_MOST = 8192  # characters kept of a line that does not end


def last_state(line: str) -> str:
    """Return what a terminal shows of a line after its carriage returns."""
    return line.rstrip("\r").rpartition("\r")[2]


def clean(line: str, colours: bool = False) -> str:
    """Return a line without what could harm a page or a terminal.

    Args:
        line: The line, without its line feed.
        colours: Whether colour sequences stay (for terminals); everything else of the terminal's goes always.
    """
    line = last_state(line)
    if "\x1b" in line:
        line = _ESCAPES.sub(lambda m: m[0] if colours and COLOURS.fullmatch(m[0]) else "", line)
        if not colours:
            line = line.replace("\x1b", "")
    return _CONTROLS.sub("\ufffd", line).expandtabs(8)


class LogTail:
    """The last lines of an output that may be endless.

    Args:
        lines: Lines kept at most.
        width: Characters kept of a line at most.
        colours: Whether colour sequences are kept.
    """

    def __init__(self, lines: int = 200, width: int = 500, colours: bool = False) -> None:
        self.total = 0  # whole lines so far
        self._kept: deque[str] = deque(maxlen=lines)
        self._limit = lines
        self._width = width
        self._colours = colours
        self._open = ""

    def write(self, text: str) -> None:
        """Take the next piece of output; a line may be split over pieces."""
        whole, feed, rest = text.rpartition("\n")
        if feed:
            self.total += whole.count("\n") + 1
            lines = (self._open + whole).rsplit("\n", self._limit)[-self._limit :]
            self._kept.extend(self._shown(line) for line in lines)
            self._open = ""
        self._open = self._shortened(self._open + rest)

    def add(self, line: str) -> None:
        """Take a whole line of ours; output that waits for its line feed ends before it."""
        self.write(("\n" if self._open else "") + line + "\n")

    @property
    def open_line(self) -> str:
        """The line that has not ended yet, such as a progress bar's."""
        return self._shown(self._open)

    def since(self, number: int) -> tuple[int, list[str]]:
        """Return the lines after the first ``number`` ones.

        Returns:
            How many of them are no longer kept, and the kept ones.
        """
        first = self.total - len(self._kept)
        missing = max(0, first - number)
        start = max(number, first) - first
        return missing, list(islice(self._kept, start, None))

    def last(self, count: int) -> list[str]:
        """Return the last ``count`` lines, the open one included."""
        lines = self.since(self.total - count)[1]
        if self._open:
            lines.append(self.open_line)
        return lines[-count:]

    def _shown(self, line: str) -> str:
        return clip(clean(line, self._colours), self._width)

    @staticmethod
    def _shortened(line: str) -> str:
        if "\r" in line:
            line = last_state(line) + ("\r" if line.endswith("\r") else "")
        if len(line) > _OPEN_AT_MOST:
            line = line[:_OPEN_AT_MOST] + ("\r" if line.endswith("\r") else "")
        return line

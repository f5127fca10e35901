r"""A line becomes words, as a POSIX shell makes them.

Beyond the shell: brackets hold a word together and keep what is in them as it stands, quotes too, so that
``c=Double(0.01, 1)`` and ``kernel=Categorical(['rbf', 'linear'])`` need no quoting; and a backslash only escapes what
has a meaning here, so that ``C:\data\train.py`` stays itself.
"""

from __future__ import annotations

from typing import NamedTuple

from kaptain_magics.magics.line_errors import usage_error

_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_ESCAPABLE = " \t'\"\\#()[]{}"


class Word(NamedTuple):
    """A word of a line.

    Attributes:
        text: The word without its quotes.
        start: Where it begins in the line.
        end: One past its end there.
    """

    text: str
    start: int
    end: int


def split(line: str) -> list[Word]:
    """Split a line; a ``#`` that begins a word begins a comment.

    Raises:
        UsageError: A quote or bracket is never closed, or the line has a null byte.
    """
    if "\0" in line:
        raise usage_error("the line has a null byte", "remove it")
    return list(_Splitter(line).words())


class _Splitter:
    def __init__(self, line: str) -> None:
        self._line = line
        self._at = 0
        self._text: list[str] = []

    def words(self) -> list[Word]:
        words: list[Word] = []
        line = self._line
        while True:
            while self._at < len(line) and line[self._at].isspace():
                self._at += 1
            if self._at < len(line) and line[self._at] == "#":
                newline = line.find("\n", self._at)
                self._at = len(line) if newline < 0 else newline
                continue
            if self._at >= len(line):
                return words
            start, self._text = self._at, []
            while self._at < len(line) and not line[self._at].isspace():
                self._next()
            words.append(Word("".join(self._text), start, self._at))

    def _next(self) -> None:
        """Take the next character, quoted text or bracket into the word."""
        line, start = self._line, self._at
        char = line[start]
        if char == "'":
            end = self._closing(start)
            self._take(line[start + 1 : end], end + 1)
        elif char == '"':
            end = self._closing(start, escapes=True)
            inner = line[start + 1 : end]
            self._take(inner.replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\"), end + 1)
        elif char == "\\" and line[start + 1 : start + 2] and line[start + 1] in _ESCAPABLE:
            self._take(line[start + 1], start + 2)
        elif char in _CLOSERS:
            end = self._bracket(start)
            self._take(line[start:end], end)
        else:
            self._take(char, start + 1)

    def _take(self, text: str, end: int) -> None:
        self._text.append(text)
        self._at = end

    def _closing(self, start: int, escapes: bool = False) -> int:
        """Return where the quote that opens at ``start`` closes."""
        quote, at = self._line[start], start + 1
        while at < len(self._line):
            if self._line[at] == "\\" and escapes:
                at += 1
            elif self._line[at] == quote:
                return at
            at += 1
        raise usage_error(f"the quote in {_near(self._line, start)} is never closed", f"add {quote} or write \\{quote}")

    def _bracket(self, start: int) -> int:
        """Return one past where the bracket that opens at ``start`` closes; comments and quotes within are Python's."""
        open_ones, at = [start], start + 1
        while at < len(self._line):
            char = self._line[at]
            if char in "'\"":
                at = self._closing(at, escapes=True)
            elif char == "#":
                newline = self._line.find("\n", at)
                at = len(self._line) if newline < 0 else newline
            elif char in _CLOSERS:
                open_ones.append(at)
            elif char in _CLOSERS.values():
                if _CLOSERS[self._line[open_ones.pop()]] != char:
                    raise usage_error(f"{char!r} is unmatched in {_near(self._line, start)}", "check the brackets")
                if not open_ones:
                    return at + 1
            at += 1
        bracket = self._line[open_ones[-1]]
        raise usage_error(f"{bracket!r} is never closed in {_near(self._line, start)}", f"add {_CLOSERS[bracket]!r}")


def _near(line: str, start: int) -> str:
    """Return the part of a line around a fault, short enough for a message."""
    begin = max(line.rfind(" ", 0, start) + 1, start - 20)
    text = line[begin : begin + 40]
    return text.splitlines()[0] + ("…" if len(line) > begin + 40 else "")

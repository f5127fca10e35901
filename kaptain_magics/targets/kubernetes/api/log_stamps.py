"""The time stamps of a log's lines: by them a log goes on exactly where a broken connection left it."""

from __future__ import annotations

import re
from datetime import datetime

_PARTIAL = 16384  # bytes at which container runtimes cut a long line
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) ")


class Stamps:
    """Takes the time stamps off a log's lines, and leaves out what an earlier connection has brought already.

    A line that begins with no time is the node's, not the program's: it and all behind it is kept apart.

    Attributes:
        last: The time stamp of the last line that was passed on.
    """

    def __init__(self) -> None:
        self.last = b""
        self._at = 0  # the same in nanoseconds
        self._rest = b""  # a line whose end has not come
        self._skipping = False
        self._unstamped = b""

    @property
    def last_second(self) -> str:
        """The last line's time, to the second, as ``sinceTime`` of the API."""
        return f"{datetime.fromtimestamp(self._at // 10**9).astimezone().isoformat(timespec='seconds')}"

    def reopen(self) -> None:
        """Begin with a new connection: the last, unfinished line comes again whole."""
        self._rest = self._unstamped = b""
        self._skipping = bool(self.last)

    def feed(self, data: bytes) -> bytes:
        """Return the log's bytes of the whole lines in the next piece."""
        if self._unstamped:
            self._unstamped += data
            return b""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        passed = []
        for number, line in enumerate(lines):
            try:
                if self._is_new(line):
                    passed.append(self._plain(line) + b"\n")
            except NoStampError:
                self._unstamped = b"\n".join([*lines[number:], self._rest])
                self._rest = b""
                break
        return b"".join(passed)

    def unstamped(self) -> str:
        """Return what the node said in the place of the log, when the answer has ended; empty where it was the log."""
        if self._rest and not self._unstamped:
            try:
                nanoseconds(self._rest.partition(b" ")[0])
            except NoStampError:
                self._unstamped, self._rest = self._rest, b""
        return " ".join(self._unstamped.decode("utf-8", "replace").split())[:300]

    def rest(self) -> bytes:
        """Return the last line without an end, when the log has ended."""
        line, self._rest = self._rest, b""
        try:
            return self._plain(line) if line and self._is_new(line) else b""
        except NoStampError:
            return b""

    def _is_new(self, line: bytes) -> bool:
        """Whether a line was not passed on before; notes it."""
        stamp = line.partition(b" ")[0]
        at = nanoseconds(stamp)
        if self._skipping and at <= self._at:
            return False
        self._skipping = False
        self.last, self._at = stamp, at
        return True

    @staticmethod
    def _plain(line: bytes) -> bytes:
        _, _, text = line.partition(b" ")
        if len(text) <= _PARTIAL:
            return text
        parts, at = [], 0  # a stamp may stand before every part of a line that the runtime has cut
        while at < len(text):
            parts.append(text[at : at + _PARTIAL])
            at += _PARTIAL
            stamp = _STAMP.match(text, at)
            if stamp:
                at = stamp.end()
        return b"".join(parts)


class NoStampError(ValueError):
    """A line of a log does not begin with a time."""


def nanoseconds(stamp: bytes) -> int:
    """Return an RFC 3339 time in nanoseconds since 1970."""
    text = stamp.decode("ascii", "replace")
    match = re.fullmatch(r"(.{19})(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", text)
    if match is None:
        raise NoStampError(text)
    zone = "+00:00" if match[3] == "Z" else match[3]
    return int(datetime.fromisoformat(match[1] + zone).timestamp()) * 10**9 + int((match[2] or "0").ljust(9, "0"))

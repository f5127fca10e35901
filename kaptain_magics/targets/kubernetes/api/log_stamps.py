"""The time stamps of a log's lines: by them a log goes on exactly where a broken connection left it."""

from __future__ import annotations

import re
from datetime import datetime

_PARTIAL = 16384  # bytes at which container runtimes cut a long line
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) ")


class Stamps:
    """Takes the time stamps off a log's lines, and leaves out what an earlier connection has brought already.

    Attributes:
        last: The time stamp of the last line that was passed on.
    """

    def __init__(self) -> None:
        self.last = b""
        self._at = 0  # the same in nanoseconds
        self._rest = b""
        self._skipping = False

    @property
    def last_second(self) -> str:
        """The last line's time, down to its second, as the API wants it."""
        return f"{datetime.fromtimestamp(self._at // 10**9).astimezone().isoformat(timespec='seconds')}"

    def reopen(self) -> None:
        """Begin with a new connection: the last, unfinished line comes again whole."""
        self._rest = b""
        self._skipping = bool(self.last)

    def feed(self, data: bytes) -> bytes:
        """Return the log's bytes of the whole lines in the next piece."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return b"".join(self._plain(line) + b"\n" for line in lines if not self._known(line))

    def rest(self) -> bytes:
        """Return the last line without an end, when the log has ended."""
        line, self._rest = self._rest, b""
        try:
            return b"" if not line or self._known(line) else self._plain(line)
        except NoStampError:
            return b""

    def _known(self, line: bytes) -> bool:
        stamp = line.partition(b" ")[0]
        if self._skipping:
            if nanoseconds(stamp) <= self._at:
                return True
            self._skipping = False
        self.last = stamp
        self._at = nanoseconds(stamp)
        return False

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

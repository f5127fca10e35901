"""What targets read from a job: its channel, metrics on its standard output, and why it failed."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kaptain_magics.core.colours import COLOURS
from kaptain_magics.core.events import ArtifactSaved, Displayed, Event, FileWritten, MetricReported, Noted
from kaptain_magics.core.failures import NO_MODULE
from kaptain_magics.core.metric_lines import MetricLines
from kaptain_magics.errors import IntegrityError
from kaptain_magics.processes.interpreter_exit import UNWRITTEN

_LONGEST_LINE = 64 * 1024  # bytes that are kept of a line whose end has not come
_TEXT_AT_MOST = 4200  # characters of what is shown; the runtime sends 4,000 and says how many more there are


UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What a line of the channel raises that the runtime has not written."""


def channel_event(data: Mapping[str, Any]) -> Event | None:
    """Turn an object that the runtime sent through its channel into an event; ``None`` for kinds unknown here."""
    kind = data.get("kind")
    if kind == "metric":
        return MetricReported(
            name=str(data["name"]),
            value=float(data["value"]),
            step=_step(data.get("step")),
            time=float(data.get("time", 0.0)),
        )
    if kind == "artifact":
        return ArtifactSaved(
            uri=str(data["uri"]),
            files={str(path): str(digest) for path, digest in dict(data.get("files", {})).items()},
            size=int(data.get("size", 0)),
            framework=str(data.get("framework", "")),
            format=str(data.get("format", "")),
            time=float(data.get("time", 0.0)),
        )
    if kind == "note":
        return Noted(text=str(data["text"]), warning=bool(data.get("warning")), hint=str(data.get("hint", "")))
    return None


class Pieces:
    """Puts together what the runtime sends in several lines: what the script shows, and files that it has written.

    What would be kept for a job is bounded here too: its script may write such lines itself.
    """

    _KEY = re.compile(r"[A-Za-z0-9-]{1,60}")
    _LARGEST, _MOST = 16 << 20, 64 << 20  # bytes of one thing, and of all

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], tuple[Mapping[str, Any], list[bytes]]] = {}
        self._taken = 0

    def feed(self, data: Mapping[str, Any]) -> Event | None:
        """Take the next line; returns the event when it is whole.

        Raises:
            ValueError: It is none that the runtime writes, or more than is kept.
        """
        kind, key, number = str(data["kind"]), str(data["key"]), int(data["piece"])
        piece = base64.b64decode(data["data"], validate=True)
        self._taken += len(piece)
        if number == 0:
            self._open[kind, key] = (data, [])
        first, pieces = self._open[kind, key]
        pieces.append(piece)
        if len(pieces) != number + 1 or self._taken > self._MOST or sum(map(len, pieces)) > self._LARGEST:
            del self._open[kind, key]
            raise ValueError("pieces are missing, or there are too many")
        if len(pieces) < int(first["pieces"]):
            return None
        del self._open[kind, key]
        content = b"".join(pieces)
        if zlib.crc32(content) != first["crc"]:
            raise ValueError("the content has changed on its way")
        when = float(first.get("time", 0.0))
        if kind == "file":
            if key.startswith("/") or ".." in key.split("/") or "\0" in key:
                raise ValueError("no place below the working folder")
            return FileWritten(path=key, size=len(content), data=content, time=when)
        if not self._KEY.fullmatch(key):
            raise ValueError("no name of something shown")
        return Displayed(
            key=key,
            mime=str(first["mime"]),
            text=str(first.get("text", ""))[:_TEXT_AT_MOST],
            clears=bool(first.get("clears")),
            size=len(content),
            data=content,
            time=when,
        )


def _step(step: Any) -> int | None:
    return None if step is None else int(step)


def place_fetched(path: Path, digest: str, folder: Path) -> None:
    """Move the file with the variables to bring back into a job's folder, where the notebook unpickles it.

    Args:
        path: The file, as it came from where the job ran.
        digest: sha256 (hex) that the job reported for it.
        folder: The job's folder.

    Raises:
        IntegrityError: It is not what the job wrote.
    """
    if path.is_symlink() or not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise IntegrityError("the fetched variables do not match the checksum that the job reported", "run it again")
    path.chmod(0o600)
    os.replace(path, folder / "fetched.pkl")


class ChannelReader:
    """Reads the lines of a job's channel as they come; a line counts when its end is there."""

    def __init__(self) -> None:
        self._rest = b""
        self._pieces = Pieces()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events in the next piece of the channel."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            try:
                fact = msgspec.json.decode(line)
                event = self._pieces.feed(fact) if "piece" in fact else channel_event(fact)
            except UNREADABLE:
                continue  # the script wrote into the channel's file itself
            if event is not None:
                yield event


class MetricScanner:
    """Finds metrics on standard output; ``core.metric_lines`` has the rule.

    Args:
        names: Names to look for; none looks for all.
        settings: Numbers that the script was given by name, which it may print too.
    """

    def __init__(self, names: Sequence[str] = (), settings: Mapping[str, float] | None = None) -> None:
        self._lines = MetricLines(names, settings)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[MetricReported]:
        """Yield the metrics in the next piece of the log; lines may be cut anywhere between two pieces."""
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:] if len(data) - end <= _LONGEST_LINE else b""
        yield from self._reported(data[:end])

    def finish(self) -> Iterator[MetricReported]:
        """Yield the metrics in a last line without an end."""
        rest, self._rest = self._rest, b""
        yield from self._reported(rest)

    def _reported(self, data: bytes) -> Iterator[MetricReported]:
        for name, value in self._lines.find(data):
            yield MetricReported(name=name, value=value)


def unfinished(data: bytes) -> int:
    """Return how many bytes at the end of ``data`` begin a UTF-8 character whose end is not there yet."""
    for size in range(1, min(3, len(data)) + 1):
        lead = data[-size]
        if lead >= 0xC0:
            return size if size < 2 + (lead >= 0xE0) + (lead >= 0xF0) else 0
        if lead < 0x80:
            return 0
    return 0


_LAST_ERROR = re.compile(
    r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Iteration)|kaptain)(?::\s*(.*))?$"
)
_FULL = "see with df -h whether the disk is full; %kaptain clean --force removes the working folders of ended runs"
_ASKING = ("EOF when reading a line", "input(", "getpass")  # what a traceback shows of a script that asks for input
_OURS = "kaptain_magics.runtime."
_SIGNALS = {
    4: "SIGILL: illegal instruction",
    6: "SIGABRT: aborted",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL: ended from outside, often because memory ran out",
    11: "SIGSEGV: crashed in native code",
    13: "SIGPIPE",
    15: "SIGTERM",
}


def explain(exit_code: int, log_tail: str, what: str = "the script") -> tuple[str, str]:
    """Say why a process failed.

    Args:
        exit_code: Its exit code; negative, or above 128 in a container, for a signal.
        log_tail: The end of its log.
        what: What it ran.

    Returns:
        The reason in one sentence and the hint (may be empty).
    """
    number = -exit_code if exit_code < 0 else exit_code - 128 if 128 < exit_code < 160 else 0
    if number and not (exit_code == 130 and "KeyboardInterrupt" in log_tail):
        return f"{what} was ended by signal {number} ({_SIGNALS.get(number, 'see `man 7 signal`')})", ""
    # Python 3.13 colours tracebacks where FORCE_COLOR is set, as kernels do
    lines = [line for line in COLOURS.sub("", log_tail).splitlines() if line.strip()]
    for index in reversed(range(max(0, len(lines) - 40), len(lines))):
        line = lines[index]
        match = _LAST_ERROR.match(line.strip())
        if match is None:
            continue
        if match[1] == "kaptain":
            return (match[2] or "").strip(), ""
        if match[1].startswith(_OURS) and match[2]:
            return match[2].strip(), lines[index + 1].strip() if index + 1 < len(lines) else ""
        if match[1] == "EOFError" and any(call in log_tail for call in _ASKING):
            return (
                f"{what} asked for input, and a run has no keyboard",
                "pass a number or text as name=value, and a secret with --env NAME; read it with os.environ['NAME']",
            )
        text = f"{what} raised {match[1]}" + (f": {match[2].strip()}" if match[2] else "")
        missing = NO_MODULE.search(line)
        if missing:
            name = missing[1].partition(".")[0]
            return text, f"name the package that brings it: --requirements {name}; or bring the file: --files {name}.py"
        if match[1] == "FileNotFoundError":
            return text, "the script runs in a folder of its own: bring files along with --files PATH"
        return text, _FULL if "[Errno 28]" in line else ""
    if exit_code == UNWRITTEN:
        return f"{what}'s last output could not be written", _FULL
    last = f": {lines[-1].strip()[:200]}" if lines else ""
    return f"{what} ended with exit code {exit_code}{last}", ""

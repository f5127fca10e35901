"""What a job of this machine writes down, read while it grows: its log and its channel."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from kaptain_magics.core.events import Event, LogWritten, StateChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.reading import ChannelReader, MetricScanner, explain, unfinished

_TICK = 0.1  # seconds between looks at the files
_PIECE = 1 << 20  # bytes read at once


class LocalJobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to follow a job that another has started: its folder, which has all that it writes down."""

    folder: str

    @classmethod
    def of_ref(cls, ref: JobRef) -> LocalJobRecord:
        """Return the record in a reference, as this version or an older one has written it."""
        return cls(folder=ref.data["folder"]) if ref.data else ref.read(cls)


class JobFiles:
    """Reads a job's log and channel as they grow."""

    def __init__(
        self, folder: Path, metric_names: tuple[str, ...], after: int, settings: Mapping[str, float] | None = None
    ) -> None:
        self._log, self._channel = folder / "log.txt", folder / "channel.jsonl"
        self._log_end, self._channel_end, self._cut = 0, 0, 0
        self._after = after  # where the next event of the log begins
        self._metrics, self._facts = MetricScanner(metric_names, settings), ChannelReader()

    def news(self) -> Iterator[Event]:
        """Yield what came since the last call."""
        for piece in _pieces(self._channel, self._channel_end):
            self._channel_end += len(piece)
            yield from self._facts.feed(piece)
        for piece in _pieces(self._log, self._log_end):
            self._log_end += len(piece)
            self._cut = unfinished(piece)
            yield from self._metrics.feed(piece)
        yield from self._grown(self._log_end - self._cut)

    def rest(self) -> Iterator[Event]:
        """Yield what stands in a last line without an end."""
        yield from self._grown(self._log_end)
        yield from self._metrics.finish()

    def _grown(self, end: int) -> Iterator[Event]:
        if end > self._after:
            yield LogWritten(start=self._after, end=end, cursor=end)
            self._after = end

    def tail(self) -> str:
        """Return the last 16 KiB of the log: what a failure is explained with."""
        with contextlib.suppress(OSError), open(self._log, "rb") as file:
            file.seek(max(0, self._log_end - 16384))
            return file.read().decode("utf-8", "replace")
        return ""


def _pieces(path: Path, start: int) -> Iterator[bytes]:
    try:
        if os.stat(path).st_size <= start:
            return
        with open(path, "rb") as file:
            file.seek(start)
            while piece := file.read(_PIECE):
                yield piece
    except FileNotFoundError:
        return


def follow_files(folder: Path, after: int) -> Iterator[Event]:
    """Follow a job of another process by what it writes down."""
    reader, done = JobFiles(folder, (), after), folder / "exit.json"
    yield StateChanged(state=RunState.RUNNING)
    while not done.exists():
        if not folder.exists():
            yield StateChanged(state=RunState.FAILED, reason="the job's folder was removed")
            return
        yield from reader.news()
        time.sleep(_TICK)
    yield from reader.news()
    yield from reader.rest()
    code = int(msgspec.json.decode(done.read_bytes())["exit"])
    if code == 0:
        yield StateChanged(state=RunState.SUCCEEDED, exit_code=0)
    else:
        reason, hint = explain(code, reader.tail())
        yield StateChanged(state=RunState.FAILED, reason=reason, hint=hint, exit_code=code)

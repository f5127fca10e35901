"""The output of a job on another machine becomes events: its log, the metrics in it, and the lines of the channel.

Such a job reports through its standard output (``KAPTAIN_CHANNEL=stdout``): a line ``::kaptain::{json}`` is a fact and
no part of the log; a line of metrics (``core.metric_lines``) is both, as it is for Katib.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from kaptain_magics.core.events import ArtifactSaved, Event, LogWritten, MetricReported, Noted
from kaptain_magics.runtime.job_errors import TransferError
from kaptain_magics.runtime.location import Location
from kaptain_magics.targets.reading import UNREADABLE, MetricScanner, Pieces, channel_event

MARK = b"::kaptain::"
_TAIL = 16 * 1024  # characters of the log that are kept to explain a failure


class OutputReader:
    """Reads a job's output from its first byte and says what it means.

    An event's cursor is the number of bytes that are read up to it. Facts are always yielded, the log only behind
    ``after``.

    Args:
        metric_names: Metrics looked for; none looks for all.
        after: Bytes of the output that the caller has read before.
        source: Where the output comes from when not from the run's own job, such as a pod's name.
        upload_uri: The only place where the job may say that it has saved a model; empty for any.
        settings: Numbers that the script was given by name, which it may print too.

    Attributes:
        fetched: sha256 (hex) of the file with the variables to bring back, once it is written.
    """

    def __init__(
        self,
        metric_names: Sequence[str] = (),
        after: int = 0,
        source: str = "",
        upload_uri: str = "",
        settings: Mapping[str, float] | None = None,
    ) -> None:
        self.fetched = ""
        self._after, self._source, self._upload_uri = after, source, upload_uri
        self._metrics = MetricScanner(metric_names, settings)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail: deque[str] = deque()
        self._consumed = 0  # bytes whose meaning is known
        self._pending = b""  # the bytes behind them
        self._pieces = Pieces()
        self._announced: Counter[tuple[str, float]] = Counter()

    @property
    def cursor(self) -> int:
        """Bytes read so far, up to a whole character."""
        return self._consumed - len(self._decoder.getstate()[0])

    @property
    def tail(self) -> str:
        """The last characters of the log so far, 16,384 at most: what a failure is explained with."""
        return "".join(self._tail)[-_TAIL:]

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes and yield what they mean; an unfinished line of the channel waits for its end."""
        self._pending += data
        while (start := self._pending.find(MARK)) >= 0 and (end := self._pending.find(b"\n", start)) >= 0:
            yield from self._log(start)
            yield from self._fact(end - start + 1)
        yield from self._log(start if start >= 0 else _plain(self._pending))

    def finish(self) -> Iterator[Event]:
        """Yield what is left when the output has ended."""
        yield from self._log(len(self._pending), final=True)
        yield from self._fresh(self._metrics.finish())

    def _log(self, size: int, final: bool = False) -> Iterator[Event]:
        data, self._pending = self._pending[:size], self._pending[size:]
        text = self._decoder.decode(data[max(0, self._after - self._consumed) :], final)
        self._consumed += size
        if text:
            self._tail.append(text)
            while len(self._tail) > 1 and sum(map(len, self._tail)) - len(self._tail[0]) > _TAIL:
                self._tail.popleft()
            yield LogWritten(text=text, source=self._source, cursor=self.cursor)
        yield from self._fresh(self._metrics.feed(data))

    def _fact(self, size: int) -> Iterator[Event]:
        line = self._pending[:size]
        try:
            fact = json.loads(line[len(MARK) :])
            event = self._pieces.feed(fact) if "piece" in fact else channel_event(fact)
        except UNREADABLE:  # the script itself printed the mark
            yield from self._log(size)
            return
        self._pending = self._pending[size:]
        self._consumed += size
        if fact.get("kind") == "fetched":
            self.fetched = str(fact.get("sha256", ""))
        if isinstance(event, ArtifactSaved) and not self._is_ours(event.uri):
            text = f"ignored a model that the job reported at {event.uri[:200]}, expected {self._upload_uri}"
            event = Noted(text=text, warning=True)
        if isinstance(event, MetricReported):
            self._announced[event.name, event.value] += 1
        if event is not None:
            yield msgspec.structs.replace(event, cursor=self.cursor)

    def _is_ours(self, uri: str) -> bool:
        """Whether a model may be at a URI: what a container prints must not name another place of this machine."""
        try:
            return not self._upload_uri or Location.parse(uri) == Location.parse(self._upload_uri)
        except TransferError:
            return False

    def _fresh(self, metrics: Iterator[MetricReported]) -> Iterator[Event]:
        """Yield the metrics without those that the runtime has sent and then printed for Katib."""
        for metric in metrics:
            if self._announced[metric.name, metric.value] > 0:
                self._announced[metric.name, metric.value] -= 1
            else:
                yield msgspec.structs.replace(metric, cursor=self.cursor)


def _plain(data: bytes) -> int:
    """Return how many bytes cannot be the beginning of a line of the channel."""
    for size in range(min(len(MARK) - 1, len(data)), 0, -1):
        if data.endswith(MARK[:size]):
            return len(data) - size
    return len(data)

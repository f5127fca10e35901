"""Objects and logs as they change: watches and log streams of a cluster, all into one queue.

A dropped connection, an API server that restarts and ``410 Gone`` are ridden out: an object's newest state always
comes, a log's bytes come once and in order.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster
from kaptain_magics.targets.kubernetes.api.feed_items import Item, Piece, SourceFailure
from kaptain_magics.targets.kubernetes.api.log_stream import LogStream
from kaptain_magics.targets.kubernetes.api.watching import Watch

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse


TICK = 0.5  # seconds without news after which a follower looks at its deadlines; news wakes it at once
_JOINED = 1 << 18  # bytes of a log that are delivered at once


class Feed:
    """Watches and logs of one follower; close it when done.

    Args:
        cluster: The cluster.
        retry_seconds: Seconds that the API server may be away before a watch is given up.
    """

    def __init__(self, cluster: Cluster, retry_seconds: float = 600.0) -> None:
        self._cluster = cluster
        self._retry_seconds = retry_seconds
        self._items: queue.Queue[Item] = queue.Queue(maxsize=2000)
        self._stop = threading.Event()
        self._sources: list[_Source] = []

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self, source: str, kind: str, labels: str = "", fields: str = "") -> None:
        """Send the objects that the selectors choose, now and whenever they change."""
        selectors = {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}
        self._start(source, Watch(self._cluster, kind, selectors))

    def log(self, source: str, pod: str, container: str) -> None:
        """Send a container's log from its first byte to its end."""
        self._start(source, LogStream(self._cluster, pod, container))

    def _start(self, source: str, reader: Watch | LogStream) -> None:
        started = _Source(source, reader, self._items, self._stop, self._retry_seconds)
        self._sources.append(started)
        started.thread.start()

    def next(self, timeout: float) -> Item | None:
        """Return what came next, or ``None`` when nothing came for so many seconds."""
        try:
            return self._items.get(timeout=timeout) if timeout else self._items.get_nowait()
        except queue.Empty:
            return None

    def batch(self, timeout: float) -> Iterator[Item]:
        """Yield what came next, if anything in so many seconds, and all behind it; pieces of one log are joined."""
        last = self.next(timeout)
        while last is not None:
            item = self.next(0.0)
            if isinstance(last, Piece) and isinstance(item, Piece) and _joinable(last, item):
                last = item._replace(data=last.data + item.data)
            else:
                yield last
                last = item

    def close(self) -> None:
        """End everything; the connections are closed when this returns."""
        self._stop.set()
        for source in self._sources:
            source.cut()
        for source in self._sources:
            source.thread.join(timeout=10.0)


def _joinable(first: Piece, second: Piece) -> bool:
    return first.source == second.source and len(first.data) < _JOINED


class _Source:
    """A watch or a log in a thread of its own, tried again until it ends or an outage outlasts ``retry_seconds``."""

    def __init__(
        self,
        source: str,
        reader: Watch | LogStream,
        items: queue.Queue[Item],
        stop: threading.Event,
        retry_seconds: float,
    ) -> None:
        self.source = source
        self.thread = threading.Thread(target=self._run, name=f"kaptain {source}", daemon=True)
        self._reader, self._items, self._stop = reader, items, stop
        self._outage = _Outage(retry_seconds)
        self._response: BaseHTTPResponse | None = None

    def _run(self) -> None:
        while not self.closed:
            try:
                if self._reader.attempt(self):
                    return
                self._outage.over()
            except Exception as error:  # whatever breaks a connection; an outage that lasts ends it
                if self.closed or not self._wait_to_retry(error):
                    return

    def _wait_to_retry(self, error: Exception) -> bool:
        """Wait before the next attempt; ``False`` where there is none."""
        refused = isinstance(error, ApiError) and error.code in self._reader.REFUSALS
        lasting = refused or self._outage.count()
        if lasting or self._outage.news:
            self.put(SourceFailure(self.source, error, passing=not lasting))
        return not lasting and not self.wait(self._outage.pause)

    # ---- what the reader uses ------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._stop.is_set()

    def put(self, item: Item) -> None:
        while not self.closed:
            with suppress(queue.Full):
                return self._items.put(item, timeout=0.2)
        return None

    def wait(self, seconds: float) -> bool:
        return self._stop.wait(seconds)

    @contextmanager
    def holding(self, response: BaseHTTPResponse) -> Iterator[None]:
        self._response = response
        if self.closed:
            self.cut()
        try:
            yield
        finally:
            self._response = None
            with suppress(Exception):
                response.close()

    def cut(self) -> None:
        """Close the connection from another thread than the one that reads it."""
        response = self._response
        if response is not None:
            with suppress(Exception):
                response.shutdown()


class _Outage:
    """How long the server has been away."""

    def __init__(self, retry_seconds: float) -> None:
        self._retry_seconds = retry_seconds
        self._since = 0.0
        self._reported = False
        self.pause = 0.1
        self.news = False

    def over(self) -> None:
        self._since, self.pause, self._reported = 0.0, 0.1, False

    def count(self) -> bool:
        """Note a failed attempt; returns whether ``retry_seconds`` are over."""
        now = time.monotonic()
        self._since = self._since or now
        self.pause = min(self.pause * 1.5, 2.0)
        self.news = now - self._since > 3.0 and not self._reported
        self._reported = self._reported or self.news
        return now - self._since > self._retry_seconds

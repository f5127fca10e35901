"""Objects and logs as they change: watches and log streams of a cluster, all into one queue.

A dropped connection, an API server that restarts and ``410 Gone`` are ridden out: an object's newest state always
comes, a log's bytes come once and in order.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple

from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster, api_error
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.api.log_stamps import NoStampError, Stamps

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_WATCH_SECONDS = 240  # after which the server ends a watch and it is asked for again
_QUIET_LOG = 600.0  # seconds without a byte after which a log is asked for again


class Change(NamedTuple):
    """An object has a new state.

    Attributes:
        source: Name of the watch.
        gone: Whether the object was deleted.
        thing: The object.
    """

    source: str
    gone: bool
    thing: Manifest


class Piece(NamedTuple):
    """A log has grown.

    Attributes:
        source: Name of the log.
        data: The next bytes; empty when the log has ended.
        ended: Whether that is all.
    """

    source: str
    data: bytes
    ended: bool = False


class Trouble(NamedTuple):
    """A watch or log cannot go on.

    Attributes:
        source: Its name.
        error: Why.
        passing: Whether it is still tried again.
    """

    source: str
    error: Exception
    passing: bool


Item = Change | Piece | Trouble


class Feed:
    """Watches and logs of one follower; close it when done.

    Args:
        cluster: The cluster.
        patience: Seconds that the API server may be away before a watch is given up.
    """

    def __init__(self, cluster: Cluster, patience: float = 600.0) -> None:
        self._cluster = cluster
        self._patience = patience
        self._items: queue.Queue[Item] = queue.Queue(maxsize=2000)
        self._stop = threading.Event()
        self._open: dict[str, BaseHTTPResponse] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self, source: str, kind: str, labels: str = "", fields: str = "") -> None:
        """Send the objects that the selectors choose, now and whenever they change."""
        self._start(source, self._watch, kind, labels, fields)

    def log(self, source: str, pod: str, container: str) -> None:
        """Send a container's log from its first byte to its end."""
        self._start(source, self._log, pod, container)

    def next(self, timeout: float) -> Item | None:
        """Return what came next, or ``None`` when nothing came for so many seconds."""
        try:
            return self._items.get(timeout=timeout)
        except queue.Empty:
            return None

    def waiting(self) -> Iterator[Item]:
        """Yield what is there already."""
        with suppress(queue.Empty):
            while True:
                yield self._items.get_nowait()

    def close(self) -> None:
        """End everything; the connections are closed when this returns."""
        self._stop.set()
        for response in list(self._open.values()):
            _cut(response)
        for thread in self._threads:
            thread.join(timeout=10.0)

    # ---- in threads ----------------------------------------------------------------------------------------------

    def _start(self, source: str, work: Any, *arguments: str) -> None:
        thread = threading.Thread(target=work, args=(source, *arguments), name=f"kaptain {source}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _put(self, item: Item) -> None:
        while not self._stop.is_set():
            try:
                self._items.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def _hold(self, source: str, response: BaseHTTPResponse) -> None:
        self._open[source] = response
        if self._stop.is_set():
            _cut(response)

    def _release(self, source: str) -> None:
        response = self._open.pop(source, None)
        if response is not None:
            with suppress(Exception):
                response.close()

    def _watch(self, source: str, kind: str, labels: str, fields: str) -> None:
        seen: dict[str, Manifest] = {}
        outage = _Outage(self._patience)
        version = ""
        while not self._stop.is_set():
            try:
                if not version:
                    version = self._list(source, kind, labels, fields, seen)
                    outage.over()
                version = self._changes(source, kind, labels, fields, seen, version)
                outage.over()
            except ApiError as error:
                if error.code == 410:
                    version = ""
                elif error.code in (400, 401, 403, 404, 405):
                    return self._put(Trouble(source, error, passing=False))
                elif not self._wait(source, outage, error):
                    return None
            except Exception as error:  # whatever breaks a connection; what lasts ends the patience
                if self._stop.is_set() or not self._wait(source, outage, error):
                    return None
        return None

    def _wait(self, source: str, outage: _Outage, error: Exception) -> bool:
        """Wait before the next attempt; False when patience has ended."""
        lasting = outage.count()
        if lasting or outage.news:
            self._put(Trouble(source, error, passing=not lasting))
        return not lasting and not self._stop.wait(outage.pause)

    def _list(self, source: str, kind: str, labels: str, fields: str, seen: dict[str, Manifest]) -> str:
        answer = self._cluster.request("GET", self._cluster.path(kind), _query(labels, fields), patience=0.0)
        items = {item["metadata"]["uid"]: item for item in answer.get("items") or ()}
        for uid, item in items.items():
            if uid not in seen or _version(seen[uid]) != _version(item):
                self._put(Change(source, False, item))
        for uid in set(seen) - set(items):
            self._put(Change(source, True, seen[uid]))
        seen.clear()
        seen.update(items)
        return str(answer["metadata"]["resourceVersion"])

    def _changes(
        self, source: str, kind: str, labels: str, fields: str, seen: dict[str, Manifest], version: str
    ) -> str:
        from urllib3.exceptions import HTTPError

        query = _query(labels, fields) | {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        response = self._cluster.open("GET", self._cluster.path(kind), query, timeout=_WATCH_SECONDS + 30.0)
        self._hold(source, response)
        try:
            if response.status >= 300:
                raise api_error(response.status, response.data)
            for line in self._cluster.lines(response):
                if not line.strip():
                    continue
                change = json.loads(line)
                thing = change["object"]
                if change["type"] == "ERROR":
                    raise api_error(int(thing.get("code", 500)), json.dumps(thing).encode())
                version = _version(thing)
                if change["type"] == "BOOKMARK":
                    continue
                gone = change["type"] == "DELETED"
                uid = thing["metadata"]["uid"]
                if gone:
                    seen.pop(uid, None)
                else:
                    seen[uid] = thing
                self._put(Change(source, gone, thing))
        except (OSError, HTTPException, HTTPError):  # a broken connection
            if self._stop.is_set():
                return version
            # The events up to here are delivered; the next watch goes on behind them.
            if version:
                self._stop.wait(0.1)
                return version
            raise
        finally:
            self._release(source)
        return version

    def _log(self, source: str, pod: str, container: str) -> None:
        outage = _Outage(self._patience)
        stamps = Stamps()
        while not self._stop.is_set():
            try:
                thing = self._cluster.get("Pod", pod)
                ended = thing is None or explain.terminated(thing, container) is not None
                if thing is None or (self._read_log(source, pod, container, stamps, follow=not ended) and ended):
                    return self._put(Piece(source, stamps.rest(), ended=True))
                outage.over()
                self._stop.wait(0.05)
            except Exception as error:  # as above
                if isinstance(error, ApiError) and error.code == 404:
                    continue  # the pod is gone: the next look says so
                if self._stop.is_set():
                    return None
                if isinstance(error, ApiError) and error.code in (401, 403):
                    return self._put(Trouble(source, error, passing=False))
                if not self._wait(source, outage, error):
                    return None
        return None

    def _read_log(self, source: str, pod: str, container: str, stamps: Stamps, follow: bool) -> bool:
        """Send what the log has behind the last line sent; returns whether the answer was whole."""
        query = {"container": container, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if stamps.last:
            query["sinceTime"] = stamps.last_second
        where = f"{self._cluster.path('Pod', pod)}/log"
        response = self._cluster.open("GET", where, query, timeout=_QUIET_LOG, accept="*/*")
        self._hold(source, response)
        try:
            if response.status == 400:  # the container is not there yet, or no more
                return not follow
            if response.status >= 300:
                raise api_error(response.status, response.data)
            stamps.reopen()
            for piece in response.stream(1 << 16, decode_content=True):
                data = stamps.feed(piece)
                if data:
                    self._put(Piece(source, data))
                if self._stop.is_set():
                    return False
        except NoStampError:  # the kubelet says in the log itself that it has none
            return not follow
        finally:
            self._release(source)
        return True


class _Outage:
    """How long the server has been away."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since = 0.0
        self._told = False
        self.pause = 0.1
        self.news = False

    def over(self) -> None:
        self._since, self.pause, self._told = 0.0, 0.1, False

    def count(self) -> bool:
        """Note a failed attempt; returns whether patience has ended."""
        now = time.monotonic()
        self._since = self._since or now
        self.pause = min(self.pause * 1.5, 2.0)
        self.news = now - self._since > 3.0 and not self._told
        self._told = self._told or self.news
        return now - self._since > self._patience


def _query(labels: str, fields: str) -> dict[str, str]:
    return {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}


def _version(thing: Manifest) -> str:
    return str(thing["metadata"].get("resourceVersion", ""))


def _cut(response: BaseHTTPResponse) -> None:
    """Close a connection from another thread than the one that reads it."""
    with suppress(Exception):
        response.shutdown()

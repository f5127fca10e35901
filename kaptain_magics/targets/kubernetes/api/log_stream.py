"""The log of one container: every byte once and in order, over broken connections and nodes that do not have it yet.

A node may answer with a text of its own in the place of the log, such as ``unable to retrieve container logs for
docker://…``, with status 200: it passes when the container's state or its file is there again. The lines of a program
begin with a time stamp, which is asked for; so a line without one is the node's.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kaptain_magics.errors import KaptainError
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster, UnreachableError, api_error
from kaptain_magics.targets.kubernetes.api.feed_items import Piece, Sink
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.api.log_stamps import Stamps

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_QUIET = 600.0  # seconds without a byte after which a log is asked for again
_LOG_TIMEOUT = 10.0  # seconds that a node may take until it has the log of an ended container
_PAUSE = 0.5  # seconds between two questions to a node that has no log yet
_PIECE = 1 << 16  # bytes read at once, fewer where no more have come
_LAST_LINES = "60"


class LogUnavailableError(Exception):
    """The node has not got a container's log, now or any more."""


class LogStream:
    """Follows a log from its first byte to its end.

    Args:
        cluster: The cluster.
        pod: The pod's name.
        container: The container's name.
    """

    REFUSALS = (401, 403)  # statuses that do not pass

    def __init__(self, cluster: Cluster, pod: str, container: str) -> None:
        self._cluster, self._pod, self._container = cluster, pod, container
        self._stamps = Stamps()
        self._unavailable_since = 0.0

    def attempt(self, sink: Sink) -> bool:
        """Deliver what has come, until the connection ends; returns whether the log has."""
        pod = self._cluster.get("Pod", self._pod)
        ended = pod is None or explain.terminated(pod, self._container) is not None
        why = ""
        if pod is not None:
            try:
                self._read(sink, follow=not ended)
                self._unavailable_since = 0.0
            except LogUnavailableError as error:
                now = time.monotonic()
                self._unavailable_since = self._unavailable_since or now
                why = str(error)
                if not ended or now - self._unavailable_since < _LOG_TIMEOUT:
                    sink.wait(_PAUSE)
                    return False
            except ApiError as error:
                if error.code != 404:
                    raise
                return False  # the pod is gone: the next look says so
        if ended and not sink.closed:
            sink.put(Piece(sink.source, self._stamps.rest(), ended=True, unavailable=why))
        sink.wait(0.05)
        return ended

    def _read(self, sink: Sink, follow: bool) -> None:
        """Deliver what the log has behind the last line delivered."""
        query = {"follow": "true"} if follow else {}
        if self._stamps.last:
            query["sinceTime"] = self._stamps.last_second
        response = _open(self._cluster, self._pod, self._container, query, _QUIET)
        with sink.holding(response):
            _refuse(response)
            self._stamps.reopen()
            for piece in response.stream(_PIECE, decode_content=True):
                data = self._stamps.feed(piece)
                if data:
                    sink.put(Piece(sink.source, data))
                if sink.closed:
                    return
        if unstamped := self._stamps.unstamped():
            raise LogUnavailableError(unstamped)


def last_log(cluster: Cluster, pod: Manifest, container: str, timeout: float = _LOG_TIMEOUT) -> str:
    """Return the end of an ended container's log, of its last run where it runs again; empty where there is none.

    Args:
        cluster: The cluster.
        pod: The container's pod.
        container: The container's name.
        timeout: Seconds that the node may take until it has the log of a run.
    """
    again = explain.last_end(pod, container) is not None
    for query in ({"previous": "true"}, {}) if again else ({},):
        until = time.monotonic() + timeout
        while True:
            try:
                return _last_lines(cluster, pod["metadata"]["name"], container, query)
            except (LogUnavailableError, UnreachableError):
                if time.monotonic() > until:
                    break
                time.sleep(_PAUSE)
            except KaptainError:
                break
    return ""


def _last_lines(cluster: Cluster, pod: str, container: str, query: dict[str, str]) -> str:
    response = _open(cluster, pod, container, {"tailLines": _LAST_LINES, **query}, 30.0)
    _refuse(response)
    stamps = Stamps()
    data = stamps.feed(response.data)
    if unstamped := stamps.unstamped():
        raise LogUnavailableError(unstamped)
    return str(data + stamps.rest(), "utf-8", "replace")


def _open(cluster: Cluster, pod: str, container: str, query: dict[str, str], quiet: float) -> BaseHTTPResponse:
    url_path = f"{cluster.path('Pod', pod)}/log"
    query = {"container": container, "timestamps": "true", **query}
    return cluster.open("GET", url_path, query, timeout=quiet, accept="*/*")


def _refuse(response: BaseHTTPResponse) -> None:
    if response.status == 400:  # the container is not there yet, or no more, or its node says so
        text = response.data.decode("utf-8", "replace")
        with suppress(ValueError, AttributeError):
            text = str(json.loads(text).get("message", ""))
        raise LogUnavailableError(" ".join(text.split()))
    if response.status >= 300:
        raise api_error(response.status, response.data)

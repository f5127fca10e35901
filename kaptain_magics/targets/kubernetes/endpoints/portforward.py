"""An address of this machine that leads to an endpoint's pods, for notebooks outside the cluster.

The listener is on 127.0.0.1 and lives as long as this process. Every request is given a pod of its own choice, so that
a canary gets its share and a pod that goes away takes no request with it; the streams to the pods are kept open. What
the choice depends on is watched: another process may swap the revisions.
"""

from __future__ import annotations

import http.client
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from kaptain_magics.errors import KaptainError
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.api.feed import Feed
from kaptain_magics.targets.kubernetes.api.feed_items import Change
from kaptain_magics.targets.kubernetes.api.pod_stream import PodConnection

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "host"}
_FRESH = 1.0  # seconds for which a list of pods is good while no change is seen; a pod that ends answers for longer
_IDLE = 4  # open streams that are kept for each pod
_ATTEMPTS = 4  # rounds over the pods that are ready, with 0.6 s of pauses in all
_LINE = 8192  # bytes of a line between chunks; a length has 15 digits at most
_TRAILERS = 100  # lines behind the last chunk: trailers that never end are an error
_forwards: dict[tuple[str, str, str], Forward] = {}
_guard = threading.Lock()


class Forward(ThreadingHTTPServer):
    """One listener.

    Args:
        cluster: The cluster.
        pods: Returns the names of the pods that can answer now.
        choose: Puts them into the order in which they are tried for the next request.
        port: Their port.
        watched: What changes when the choice does, by kind: ``labelSelector`` or ``fieldSelector`` as arguments of
            ``Feed.watch``.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        cluster: Cluster,
        pods: Callable[[], list[str]],
        choose: Callable[[list[str]], list[str]],
        port: int,
        watched: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self._cluster, self._pods, self._choose, self._port = cluster, pods, choose, port
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._looked_at = 0.0
        self._streams: dict[str, list[PodConnection]] = {}
        self.idle: set[socket.socket] = set()  # clients' connections between two requests
        self.closing = False
        threading.Thread(target=self.serve_forever, name=f"kaptain forward {self.address}", daemon=True).start()
        if watched:
            threading.Thread(target=self._watch, args=(watched,), name="kaptain pods", daemon=True).start()

    def _watch(self, watched: Mapping[str, Mapping[str, str]]) -> None:
        with Feed(self._cluster, retry_seconds=math.inf) as feed:
            for kind, chosen in watched.items():
                feed.watch(kind, kind, **chosen)
            while not self.closing:
                if isinstance(feed.next(_FRESH), Change):
                    self.refresh()

    def close(self) -> None:
        """Stop listening; requests in flight are answered."""
        self.closing = True
        self.shutdown()
        self.server_close()
        with self._lock:
            streams = [stream for kept in self._streams.values() for stream in kept]
            self._streams.clear()
            idle = list(self.idle)
        for connection in idle:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for stream in streams:
            stream.close()

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, bytes]:
        """Send a request to a pod and return status, headers and body of its answer.

        A pod that breaks off before it has answered is followed by the next one: inference changes nothing.

        Raises:
            ConnectionError: No pod answers.
        """
        why: Exception = ConnectionError("the endpoint has no pod that is ready")
        for attempt in range(_ATTEMPTS):
            for pod in self._choose(self._ready(again=attempt > 0))[:2]:
                connection = self._stream(pod)
                try:
                    connection.request(method, path, body or None, headers)
                    answer = connection.getresponse()
                    data = answer.read()
                except (http.client.HTTPException, OSError) as error:
                    connection.close()
                    why = error
                    continue
                self._keep(connection, answer)
                return answer.status, answer.headers, data
            time.sleep(0.1 * attempt)
        raise ConnectionError(f"the endpoint does not answer: {why}")

    def _ready(self, again: bool) -> list[str]:
        with self._lock:
            if again or time.monotonic() - self._looked_at > _FRESH:
                with suppress(KaptainError):
                    self._names = self._pods()
                self._looked_at = time.monotonic()
                for gone in set(self._streams) - set(self._names):
                    for stream in self._streams.pop(gone):
                        stream.close()
            return list(self._names)

    def _stream(self, pod: str) -> PodConnection:
        with self._lock:
            kept = self._streams.get(pod)
            return kept.pop() if kept else PodConnection(self._cluster, pod, self._port)

    def _keep(self, connection: PodConnection, answer: http.client.HTTPResponse) -> None:
        with self._lock:
            kept = self._streams.setdefault(connection.pod, [])
            if not answer.will_close and not self.closing and connection.pod in self._names and len(kept) < _IDLE:
                kept.append(connection)
                return
        connection.close()

    def refresh(self) -> None:
        """Ask for the pods again before the next request."""
        with self._lock:
            self._looked_at = 0.0

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that break off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer leaves in two writes
    server: Forward

    def handle_one_request(self) -> None:
        with self.server._lock:
            self.server.idle.add(self.connection)
        try:
            super().handle_one_request()
        finally:
            with self.server._lock:
                self.server.idle.discard(self.connection)

    def _forward(self) -> None:
        with self.server._lock:
            self.server.idle.discard(self.connection)
        sent = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            body = self._body()
        except ValueError as error:
            self.close_connection = True
            self.send_error(400, str(error))
            return
        try:
            status, headers, data = self.server.ask(self.command, self.path, body, sent)
        except ConnectionError as error:
            status, headers, data = 503, {}, str(error).encode()
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        if self.server.closing:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_HEAD = do_OPTIONS = _forward  # noqa: N815 - names of the library

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            length = self.headers.get("Content-Length") or "0"
            if not re.fullmatch("[0-9]{1,15}", length):
                raise ValueError("Content-Length is not a number")
            return self.rfile.read(int(length))
        pieces = []
        while size := self._chunk_size():
            pieces.append(self.rfile.read(size))
            if self.rfile.readline(3) != b"\r\n":
                raise ValueError("malformed chunk: its data does not end at its size")
        for _ in range(_TRAILERS):
            if not self.rfile.readline(_LINE).strip():
                break
        else:
            raise ValueError("the request has too many trailers")
        return b"".join(pieces)

    def _chunk_size(self) -> int:
        size = re.fullmatch(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n", self.rfile.readline(_LINE))
        if size is None:
            raise ValueError("a chunk has no size")
        return int(size[1], 16)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def forward(
    cluster: Cluster,
    name: str,
    pods: Callable[[], list[str]],
    choose: Callable[[list[str]], list[str]],
    port: int,
    watched: Mapping[str, Mapping[str, str]],
) -> Forward:
    """Return this process's listener for an endpoint; it is made when there is none."""
    key = (cluster.host, cluster.namespace, name)
    with _guard:
        if key not in _forwards:
            _forwards[key] = Forward(cluster, pods, choose, port, watched)
        return _forwards[key]


def refresh(cluster: Cluster, name: str) -> None:
    """Let this process's listener for an endpoint, if there is one, ask for its pods again."""
    with _guard:
        listener = _forwards.get((cluster.host, cluster.namespace, name))
    if listener is not None:
        listener.refresh()


def forget(cluster: Cluster, name: str) -> None:
    """Close this process's listener for an endpoint that was taken down."""
    with _guard:
        listener = _forwards.pop((cluster.host, cluster.namespace, name), None)
    if listener is not None:
        listener.close()


def take_turns() -> Callable[[list[str]], list[str]]:
    """Return an order of choice that gives every pod the same number of requests."""
    turn = 0

    def choose(pods: list[str]) -> list[str]:
        nonlocal turn
        turn += 1
        first = turn % max(1, len(pods))
        return pods[first:] + pods[:first]

    return choose

"""HTTP connections to endpoints that wait, open, for the next request.

On the standard library's ``http.client``: with urllib3's pool a small prediction takes a third longer (0.24 ms in the
place of 0.18 ms at the median, with its ``PoolManager`` 0.27 ms; Python 3.11, urllib3 2.8, one client, same machine).
"""

from __future__ import annotations

import atexit
import http.client
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

_KEPT = 16  # connections to one server that wait at most
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, http.client.BadStatusLine)

# By process, scheme and host: a fork must not write to its parent's connections. There is no lock that a fork could
# copy while another thread holds it; ``append`` and ``pop`` of a list are atomic.
_waiting: dict[tuple[int, str, str], list[http.client.HTTPConnection]] = {}


class Response(NamedTuple):
    """A server's whole answer, whatever its status."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def request(method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: float) -> Response:
    """Send a request over a connection that waits, or a new one; redirects and proxies are not followed.

    A connection that has answered before may have been closed by the server meanwhile. What such a connection loses is
    sent again, until a new connection answers or fails; what a new connection loses is not, for its server may have
    died of it.

    Args:
        method: The HTTP method; the request must be one that may arrive twice.
        url: Where to send it.
        headers: Its headers.
        body: Its body.
        timeout: Seconds to wait for the server, each time.

    Raises:
        OSError: The server cannot be reached, or does not answer in time (``TimeoutError``).
        http.client.HTTPException: What it answers is not HTTP.
    """
    parts = urlsplit(url)
    while True:
        connection = _take(parts.scheme, parts.netloc, timeout)
        reused = connection.sock is not None
        try:
            connection.request(method, parts.path, body, dict(headers))
            answer = connection.getresponse()
            data = answer.read()
        except BaseException as error:
            connection.close()
            if reused and isinstance(error, _STALE):
                continue
            raise
        _give_back(parts.scheme, parts.netloc, connection)
        return Response(answer.status, answer.headers, data)


def forget(url: str) -> None:
    """Close the connections that wait for requests to a server, for another one may have its port by now."""
    parts = urlsplit(url)
    _close(_waiting.get((os.getpid(), parts.scheme, parts.netloc), []))


def _take(scheme: str, host: str, timeout: float) -> http.client.HTTPConnection:
    try:
        connection = _waiting[os.getpid(), scheme, host].pop()
    except (KeyError, IndexError):
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        return kind(host, timeout=timeout)
    connection.timeout = timeout
    connection.sock.settimeout(timeout)
    return connection


def _give_back(scheme: str, host: str, connection: http.client.HTTPConnection) -> None:
    """Keep a connection that is still open, but not too many."""
    waiting = _waiting.setdefault((os.getpid(), scheme, host), [])
    if connection.sock is not None and len(waiting) < _KEPT:
        waiting.append(connection)
    else:
        connection.close()


def _close(waiting: list[http.client.HTTPConnection]) -> None:
    with suppress(IndexError):
        while True:
            waiting.pop().close()


@atexit.register
def _close_all() -> None:
    for waiting in _waiting.values():
        _close(waiting)

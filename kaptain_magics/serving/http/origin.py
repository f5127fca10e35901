"""Which requests a server without a token takes on this machine: none that a web page of elsewhere has a browser send.

A page cannot choose the ``Host``, ``Origin`` and ``Sec-Fetch-*`` headers of its requests. A name that its owner points
at 127.0.0.1 (DNS rebinding) is recognised by ``Host``; a request to our address from another site by the others.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from kaptain_magics.serving.protocol.protocol_errors import RequestError

_CONTAINERS_HOST = ("host.docker.internal", "host.containers.internal")  # this machine, as containers call it
HEADERS = (b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode")


def check_origin(method: str, headers: Mapping[bytes, bytes]) -> None:
    """Refuse what comes from another site.

    Args:
        method: The request's method.
        headers: Its headers by name in lower case; those of ``HEADERS`` count.

    Raises:
        RequestError: 421, the request is for another host; 403, another site sends it.
    """
    host = headers.get(b"host", b"")
    if host and not _ours(host):
        raise RequestError(
            421, f"this server is not {host[:100].decode('latin-1')}: ask it as 127.0.0.1, or deploy it with --token"
        )
    opened = headers.get(b"sec-fetch-mode") == b"navigate" and method == "GET"  # a link, whose answer no page can read
    if headers.get(b"sec-fetch-site") == b"cross-site" and not opened:
        raise RequestError(403, "another site's page may not ask this server")
    origin = headers.get(b"origin")
    if origin is not None and not _same(origin, host):
        raise RequestError(403, "another site's page may not ask this server")


def from_browser(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends a request for a page."""
    return b"origin" in headers or b"sec-fetch-site" in headers


@functools.lru_cache(maxsize=256)
def _ours(host: bytes) -> bool:
    """Whether a ``Host`` can only be this machine: an address, a name without a dot, or one that is known."""
    name = _name(f"//{host.decode('latin-1')}")
    if not name or "." not in name:
        return bool(name)
    is_local = name in (*_CONTAINERS_HOST, socket.gethostname().lower())
    return is_local or name.endswith(".localhost") or _is_address(name)


@functools.lru_cache(maxsize=256)
def _same(origin: bytes, host: bytes) -> bool:
    """Whether a page is of the server itself or of another one on this machine, such as a notebook's."""
    name = _name(origin.decode("latin-1"))
    if not name:
        return False
    if name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback):
        return True
    return name == _name(f"//{host.decode('latin-1')}")


def _name(address: str) -> str:
    """Return the host's name of an address, in lower case; empty where it has none."""
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

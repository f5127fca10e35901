"""Requests to one registry: HTTPS or HTTP, redirects, a login when it is asked for, again when the registry is busy."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from kaptain_magics.errors import ImageError
from kaptain_magics.images.registry.registry_access import Access, tls_context
from kaptain_magics.images.registry.registry_auth import RegistryAuth
from kaptain_magics.images.registry.registry_errors import network_reason

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_CONNECT, _READ = 10.0, 60.0  # seconds; a registry may hash a large layer before it answers
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # statuses of a registry that may answer when it is asked again


class RegistryHttp:
    """Requests to one registry.

    Args:
        registry: ``host[:port]``.
        access: How it is reached.
    """

    def __init__(self, registry: str, access: Access) -> None:
        self.registry, self._access = registry, access
        self._pool: PoolManager | None = None
        self._auth = RegistryAuth(registry, access)
        self._plain_allowed = access.plain_allowed(registry)
        self._scheme = "http" if self._plain_allowed and not access.own_authority(registry) else "https"

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        expect: Iterable[int] = (200,),
        retry_seconds: float | None = None,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request, again where it makes sense.

        Args:
            method: The method.
            path: Path on the registry, or a whole URL that it gave.
            scope: What is to be done, as tokens name it: ``repository:team/mnist:pull,push``.
            headers: Further headers.
            body: The body.
            expect: Status codes that are answers.
            retry_seconds: Seconds to try for, instead of the access's own.
            stream: Leave the body unread.

        Raises:
            CredentialsError: The login is missing, wrong or does not allow this.
            ImageError: The registry cannot be reached, or refuses the request.
        """
        # An answer that is expected ends it. A 401 is answered once by a login. A connection that fails, or a busy
        # registry, is tried again after a pause that doubles, for `retry_seconds`; all else is a refusal.
        until = time.monotonic() + (self._access.retry_seconds if retry_seconds is None else retry_seconds)
        pause, authorized = 0.25, False
        while True:
            try:
                answer = self._send(method, path, scope, headers, body, stream)
            except _UnreachableError as error:
                if time.monotonic() + pause >= until:
                    raise ImageError(
                        f"the registry {self.registry} cannot be reached: {error}", self._unreachable_hint
                    ) from error.__cause__
            else:
                if answer.status in expect:
                    return answer
                if answer.status == 401 and not authorized:
                    authorized = True
                    self._auth.log_in(answer, scope, self._connections())
                    answer.drain_conn()
                    continue
                if answer.status not in _BUSY or time.monotonic() + pause >= until:
                    raise self._auth.refusal(answer, method, scope)
                pause = max(pause, _retry_after(answer))
                answer.drain_conn()
            time.sleep(min(pause, 10.0))
            pause *= 2

    def _send(
        self, method: str, path: str, scope: str, headers: Mapping[str, str] | None, body: bytes | None, stream: bool
    ) -> BaseHTTPResponse:
        import urllib3

        base = f"{self._scheme}://{self.registry}"
        url = urljoin(base, path)
        sent = {"User-Agent": "kaptain-magics", **(headers or {})}
        if urlsplit(url).netloc == self.registry:  # never to another host
            sent |= self._auth.headers(scope)
        try:
            answer = self._connections().request(
                method, url, headers=sent, body=body, redirect=method in ("GET", "HEAD"), preload_content=not stream
            )
        except urllib3.exceptions.HTTPError as error:
            if _is_tls(error):
                raise ImageError(
                    f"the certificate of the registry {self.registry} is not trusted, or it does not support HTTPS",
                    "name its authority's certificate with KAPTAIN_REGISTRY_CERTIFICATE, or allow plain HTTP with "
                    f"KAPTAIN_INSECURE_REGISTRIES={self.registry}",
                ) from error
            raise _UnreachableError(network_reason(error)) from error
        if answer.status == 400 and self._scheme == "http" and "Docker-Distribution-Api-Version" not in answer.headers:
            answer.drain_conn()  # a server that requires HTTPS answers like this
            self._scheme, self._pool = "https", None
            return self._send(method, path, scope, headers, body, stream)
        return answer

    def _connections(self) -> PoolManager:
        if self._pool is None:
            import urllib3
            from urllib3.util import Retry, Timeout

            redirects = Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)  # to where blobs lie
            context = tls_context(self._access.authority(self.registry)) if self._scheme == "https" else None
            self._pool = urllib3.PoolManager(
                maxsize=4, retries=redirects, timeout=Timeout(_CONNECT, _READ), ssl_context=context
            )
        return self._pool

    @property
    def _unreachable_hint(self) -> str:
        hint = "check the name and the network"
        if self._plain_allowed:
            return hint
        return f"{hint}; plain HTTP needs KAPTAIN_INSECURE_REGISTRIES={self.registry}"


class _UnreachableError(Exception):
    """No answer came: the connection failed, broke or timed out."""


def _is_tls(error: Exception) -> bool:
    import ssl

    causes: list[BaseException | None] = [error, error.__cause__, error.__context__, getattr(error, "reason", None)]
    return any(isinstance(cause, ssl.SSLError) or type(cause).__name__ == "SSLError" for cause in causes)


def _retry_after(answer: BaseHTTPResponse) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0

"""HTTP to a registry: who may speak plain HTTP, which certificates count, logins, tokens and patience."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

from kaptain_magics.errors import CredentialsError, ImageError
from kaptain_magics.images.credentials import Login, Logins

if TYPE_CHECKING:
    import ssl

    from urllib3 import BaseHTTPResponse, PoolManager

_CONNECT, _READ = 10.0, 60.0  # seconds
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Access(NamedTuple):
    """How registries are reached.

    Attributes:
        logins: The logins.
        plain_http: Registries (``host[:port]``) that may be spoken to without encryption; loopback always may.
        certificate: File with the certificate of a private authority, beside those of the system.
        private: The one registry that the certificate is for; empty for all.
        patience: Seconds for which an unreachable or busy registry is asked again.
    """

    logins: Logins
    plain_http: tuple[str, ...] = ()
    certificate: str = ""
    private: str = ""
    patience: float = 45.0

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Access:
        """Return the access that settings name.

        Args:
            settings: ``docker_config``, ``insecure_registries``, ``registry``, ``registry_certificate``.
        """
        return cls(
            Logins.under(settings),
            tuple(filter(None, re.split(r"[,\s]+", settings.get("insecure_registries", "")))),
            settings.get("registry_certificate", ""),
            re.sub(r"^https?://|/+$", "", settings.get("registry", "")),
        )


class RegistryHttp:
    """Requests to one registry.

    Args:
        registry: ``host[:port]``.
        access: How it is reached.
    """

    def __init__(self, registry: str, access: Access) -> None:
        self.registry, self._access = registry, access
        self._pool: PoolManager | None = None
        self._plain = registry in access.plain_http or _loopback(registry)
        self._scheme = "http" if self._plain and not _own_authority(registry, access) else "https"
        self._authorization: dict[str, str] = {}  # tokens by scope; a password under no scope
        self._login: Login | None = None
        self._asked = False

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        expect: Iterable[int] = (200,),
        patience: float | None = None,
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
            patience: Seconds to try for, instead of the access's own.
            stream: Leave the body unread.

        Raises:
            CredentialsError: The login is missing, wrong or does not allow this.
            ImageError: The registry cannot be reached, or refuses the request.
        """
        until = time.monotonic() + (self._access.patience if patience is None else patience)
        pause, authorized = 0.25, False
        while True:
            try:
                answer = self._send(method, path, scope, headers, body, stream)
            except _UnreachableError as error:
                if time.monotonic() + pause >= until:
                    raise ImageError(
                        f"the registry {self.registry} cannot be reached: {error}", _unreachable_hint(self)
                    ) from error.__cause__
            else:
                if answer.status in expect:
                    return answer
                if answer.status == 401 and not authorized:
                    authorized = True
                    self._authorize(answer, scope)
                    answer.drain_conn()
                    continue
                if answer.status not in _BUSY or time.monotonic() + pause >= until:
                    raise self._refusal(answer, method, scope)
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
            known = self._authorization.get(scope) or self._authorization.get("")
            sent |= {"Authorization": known} if known else {}
        try:
            answer = self._connections().request(
                method, url, headers=sent, body=body, redirect=method in ("GET", "HEAD"), preload_content=not stream
            )
        except urllib3.exceptions.HTTPError as error:
            if _is_tls(error):
                raise ImageError(
                    f"the certificate of the registry {self.registry} is not trusted, or it does not speak HTTPS",
                    "name its authority's certificate with KAPTAIN_REGISTRY_CERTIFICATE, or allow plain HTTP with "
                    f"KAPTAIN_INSECURE_REGISTRIES={self.registry}",
                ) from error
            raise _UnreachableError(_short(error)) from error
        if answer.status == 400 and self._scheme == "http" and "Docker-Distribution-Api-Version" not in answer.headers:
            answer.drain_conn()  # a server that wants HTTPS says so like this
            self._scheme, self._pool = "https", None
            return self._send(method, path, scope, headers, body, stream)
        return answer

    def _connections(self) -> PoolManager:
        if self._pool is None:
            import urllib3
            from urllib3.util import Retry, Timeout

            redirects = Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)  # to where blobs lie
            context = _trust(_authority(self.registry, self._access)) if self._scheme == "https" else None
            self._pool = urllib3.PoolManager(
                maxsize=4, retries=redirects, timeout=Timeout(_CONNECT, _READ), ssl_context=context
            )
        return self._pool

    def _authorize(self, answer: BaseHTTPResponse, scope: str) -> None:
        """Take what the registry asks for: a password, or a token of its token server."""
        if not self._asked:
            self._login, self._asked = self._access.logins.of(self.registry), True
        challenge = answer.headers.get("WWW-Authenticate", "")
        kind = challenge.partition(" ")[0].lower()
        login = self._login
        if kind == "bearer":
            self._authorization[scope] = f"Bearer {self._token(dict(_CHALLENGE.findall(challenge)), scope)}"
        elif login is not None and "" not in self._authorization:
            self._authorization[""] = _basic(login)
        else:
            raise self._refusal(answer, "GET", scope)

    def _token(self, asked: Mapping[str, str], scope: str) -> str:
        import urllib3

        realm = asked.get("realm", "")
        if urlsplit(realm).scheme != "https" and not (self._plain and urlsplit(realm).scheme == "http"):
            raise CredentialsError(f"the registry {self.registry} names no safe place to log in", "check its address")
        fields = {"service": asked.get("service", ""), "scope": scope}
        headers: dict[str, str] = {}
        method, url = "GET", f"{realm}{'&' if '?' in realm else '?'}{urlencode(fields)}"
        login, body = self._login, None
        if login is not None and login.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": login.identity_token, "client_id": "kaptain"}
            method, url, body = "POST", realm, urlencode({**fields, **grant})
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif login is not None:
            headers["Authorization"] = _basic(login)
        try:
            answer = self._connections().request(method, url, headers=headers, body=body)
        except urllib3.exceptions.HTTPError as error:
            raise ImageError(
                f"the login server of {self.registry} cannot be reached: {_short(error)}", "try again later"
            ) from error
        if answer.status != 200:
            raise self._refusal(answer, "GET", scope)
        try:
            found = json.loads(answer.data)
            return str(found.get("token") or found["access_token"])
        except (ValueError, KeyError, AttributeError):
            raise CredentialsError(f"the login server of {self.registry} gave no token", "try docker login") from None

    def _refusal(self, answer: BaseHTTPResponse, method: str, scope: str) -> ImageError | CredentialsError:
        repository = scope.split(":")[1] if scope.count(":") >= 2 else scope
        if answer.status in (401, 403):
            if self._login is None:
                return CredentialsError(
                    f"the registry {self.registry} asks for a login", f"run docker login {self.registry}"
                )
            return CredentialsError(
                f"the registry {self.registry} does not let this login {_verb(method)} {repository}",
                f"check the repository's name and your rights, or run docker login {self.registry}",
            )
        if answer.status == 404:
            return ImageError(
                f"the registry {self.registry} has no repository {repository}", "create it there, or check its name"
            )
        return ImageError(
            f"the registry {self.registry} refused {repository}: {_reason(answer)}", "try again, or ask its owner"
        )


class _UnreachableError(Exception):
    """No answer came."""


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.secret}".encode()).decode()


def _loopback(registry: str) -> bool:
    host = urlsplit(f"//{registry}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _authority(registry: str, access: Access) -> str:
    """Return the file with the certificate of a registry's private authority; empty where there is none."""
    if access.private not in ("", registry):
        return _own_authority(registry, access)
    usual = Path.home() / ".tls" / "certificate.crt"
    named = access.certificate or _own_authority(registry, access) or (str(usual) if usual.is_file() else "")
    return str(Path(named).expanduser()) if named else ""


def _own_authority(registry: str, access: Access) -> str:
    """Return the certificate that is for exactly this registry, which says that it speaks HTTPS."""
    if access.certificate and access.private == registry:
        return access.certificate
    for folder in (Path("/etc/docker/certs.d"), access.logins.path.parent / "certs.d"):
        path = folder / registry / "ca.crt"
        if path.is_file():
            return str(path)
    return ""


def _trust(authority: str) -> ssl.SSLContext:
    """Return what makes connections safe: the system's authorities, and one more where it is named."""
    import ssl

    context = ssl.create_default_context()
    if authority:
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise ImageError(
                f"the certificate {authority} cannot be used: {error.strerror or 'it is no certificate'}",
                "name a PEM file with KAPTAIN_REGISTRY_CERTIFICATE",
            ) from error
    return context


def _is_tls(error: Exception) -> bool:
    import ssl

    causes: list[BaseException | None] = [error, error.__cause__, error.__context__, getattr(error, "reason", None)]
    return any(isinstance(cause, ssl.SSLError) or type(cause).__name__ == "SSLError" for cause in causes)


def _retry_after(answer: BaseHTTPResponse) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _verb(method: str) -> str:
    return "read" if method in ("GET", "HEAD") else "write"


def _reason(answer: BaseHTTPResponse) -> str:
    try:
        first = json.loads(answer.data)["errors"][0]
        return f"{first.get('message') or first.get('code')} ({answer.status})"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return f"status {answer.status}"


def _short(error: Exception) -> str:
    text = str(error)
    return text.rpartition(": ")[2].strip("')\"") if ": " in text else text or type(error).__name__


def _unreachable_hint(http: RegistryHttp) -> str:
    hint = "check the name and the network"
    return hint if http._plain else f"{hint}; plain HTTP needs KAPTAIN_INSECURE_REGISTRIES={http.registry}"

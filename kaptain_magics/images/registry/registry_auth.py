"""Logging in to a registry: what it asks for with 401, answered by a password or a token of its token server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from kaptain_magics.errors import CredentialsError, ImageError
from kaptain_magics.images.registry.docker_logins import Login
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_errors import network_reason, refusal

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class RegistryAuth:
    """The login of one registry and the tokens that it gave.

    Args:
        registry: ``host[:port]``.
        access: Has the logins.
    """

    def __init__(self, registry: str, access: Access) -> None:
        self._registry, self._access = registry, access
        self._headers: dict[str, str] = {}  # tokens by scope; a password under no scope
        self._login: Login | None = None
        self._login_read = False

    def headers(self, scope: str) -> dict[str, str]:
        """Return the headers that prove who asks, none before the registry has asked for them."""
        value = self._headers.get(scope) or self._headers.get("")
        return {"Authorization": value} if value else {}

    def log_in(self, answer: BaseHTTPResponse, scope: str, connections: PoolManager) -> None:
        """Get what the registry asks for: a password, or a token of its token server.

        Args:
            answer: The registry's answer 401.
            scope: What is to be done.
            connections: Reaches the token server.

        Raises:
            CredentialsError: There is no login, or it was refused.
            ImageError: The token server cannot be reached.
        """
        if not self._login_read:
            self._login, self._login_read = self._access.logins.of(self._registry), True
        challenge = answer.headers.get("WWW-Authenticate", "")
        kind = challenge.partition(" ")[0].lower()
        if kind == "bearer":
            token = self._token(dict(_CHALLENGE.findall(challenge)), scope, connections)
            self._headers[scope] = f"Bearer {token}"
        elif self._login is not None and "" not in self._headers:
            self._headers[""] = _basic(self._login)
        else:
            raise self.refusal(answer, "GET", scope)

    def refusal(self, answer: BaseHTTPResponse, method: str, scope: str) -> ImageError | CredentialsError:
        """Return the error for an answer that is none of those expected."""
        return refusal(self._registry, answer, method, scope, self._login is not None)

    def _token(self, challenge: Mapping[str, str], scope: str, connections: PoolManager) -> str:
        import urllib3

        realm = challenge.get("realm", "")
        if urlsplit(realm).scheme != "https" and not (
            self._access.plain_allowed(self._registry) and urlsplit(realm).scheme == "http"
        ):
            raise CredentialsError(
                f"the login server of {self._registry} does not use HTTPS: {urlsplit(realm).hostname or 'no address'}",
                f"check the registry's name; KAPTAIN_INSECURE_REGISTRIES={self._registry} allows it",
            )
        fields = {"service": challenge.get("service", ""), "scope": scope}
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
            answer = connections.request(method, url, headers=headers, body=body)
        except urllib3.exceptions.HTTPError as error:
            raise ImageError(
                f"the login server of {self._registry} cannot be reached: {network_reason(error)}", "try again later"
            ) from error
        if answer.status != 200:
            raise self.refusal(answer, "GET", scope)
        try:
            content = json.loads(answer.data)
            return str(content.get("token") or content["access_token"])
        except (ValueError, KeyError, AttributeError):
            raise CredentialsError(f"the login server of {self._registry} gave no token", "try docker login") from None


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.secret}".encode()).decode()

"""Who may ask a server: who has its token; without one on this machine, everybody but pages of other sites."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from kaptain_magics.errors import ServingError
from kaptain_magics.serving.http.origin import check_origin
from kaptain_magics.serving.protocol.protocol_errors import RequestError

_LOOPBACK = ("127.", "localhost", "::1")


class Authorizer:
    """Lets requests with the right token through.

    Args:
        token: The token; empty lets everybody through.
        host: The address that the server listens on.
    """

    def __init__(self, token: str, host: str = "") -> None:
        self._expected = f"Bearer {token}".encode() if token else b""
        self._only_here = not token and host.startswith(_LOOPBACK)

    def admit(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Look where a request comes from, before anything else.

        Raises:
            RequestError: 421 or 403, a page of another site sends it.
        """
        if self._only_here:
            check_origin(method, headers)

    def check(self, authorization: bytes) -> None:
        """Compare the ``Authorization`` header in constant time.

        Raises:
            RequestError: 401, the token is missing or wrong.
        """
        if self._expected and not hmac.compare_digest(authorization, self._expected):
            raise RequestError(401, "a bearer token is needed", ((b"www-authenticate", b"Bearer"),))


def demand_token(host: str, token: str, insecure: bool) -> None:
    """Refuse to listen beyond this machine without a token, unless ``insecure``.

    Raises:
        ServingError: There is none.
    """
    if not token and not insecure and not host.startswith(_LOOPBACK):
        raise ServingError(
            f"listening on {host} needs a token", "set KAPTAIN_TOKEN, or pass --insecure where the network is safe"
        )

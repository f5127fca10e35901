"""Bearer tokens."""

from __future__ import annotations

import hmac

from kaptain_magics.errors import ServingError
from kaptain_magics.serving.errors import RequestError

_LOOPBACK = ("127.", "localhost", "::1")


class Gate:
    """Lets requests with the right token through.

    Args:
        token: The token; empty lets everybody through.
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode() if token else b""

    def check(self, authorization: bytes) -> None:
        """Compare the ``Authorization`` header in constant time.

        Raises:
            RequestError: 401, the token is missing or wrong.
        """
        if self._expected and not hmac.compare_digest(authorization, self._expected):
            raise RequestError(401, "a bearer token is needed", ((b"www-authenticate", b"Bearer"),))


def demand_token(host: str, token: str, insecure: bool) -> None:
    """Refuse to listen beyond this machine without a token, unless told to.

    Raises:
        ServingError: There is none.
    """
    if not token and not insecure and not host.startswith(_LOOPBACK):
        raise ServingError(
            f"listening on {host} needs a token", "set KAPTAIN_TOKEN, or say --insecure where the network is safe"
        )

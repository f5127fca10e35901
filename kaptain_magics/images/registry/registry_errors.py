"""What a registry's refusals mean, in one sentence each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kaptain_magics.errors import CredentialsError, ImageError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse


def refusal(
    registry: str, answer: BaseHTTPResponse, method: str, scope: str, has_login: bool
) -> ImageError | CredentialsError:
    """Return the error that stands for an answer that is none of those expected.

    Args:
        registry: ``host[:port]``.
        answer: The registry's answer, or its token server's.
        method: The method of the request.
        scope: What was to be done, such as ``repository:team/mnist:pull``.
        has_login: Whether a login was sent.
    """
    repository = scope.split(":")[1] if scope.count(":") >= 2 else scope
    if answer.status in (401, 403):
        if not has_login:
            return CredentialsError(f"the registry {registry} asks for a login", f"run docker login {registry}")
        return CredentialsError(
            f"the registry {registry} does not let this login {_verb(method)} {repository}",
            f"check the repository's name and your rights, or run docker login {registry}",
        )
    if answer.status == 404:
        return ImageError(
            f"the registry {registry} has no repository {repository}", "create it there, or check its name"
        )
    return ImageError(f"the registry {registry} refused {repository}: {_reason(answer)}", "try again, or ask its owner")


def network_reason(error: Exception) -> str:
    """Return the last part of a connection's error, which is the one that says what happened."""
    text = str(error)
    return text.rpartition(": ")[2].strip("')\"") if ": " in text else text or type(error).__name__


def _verb(method: str) -> str:
    return "read" if method in ("GET", "HEAD") else "write"


def _reason(answer: BaseHTTPResponse) -> str:
    try:
        first = json.loads(answer.data)["errors"][0]
        return f"{first.get('message') or first.get('code')} ({answer.status})"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return f"status {answer.status}"

"""Errors as the protocol says them: a status and ``{"error": "..."}``."""

from __future__ import annotations

import logging

import orjson

from kaptain_magics.errors import InferenceError

JSON = ((b"content-type", b"application/json"),)  # headers of every answer that is JSON, an error too

logger = logging.getLogger("kaptain.serving")


class RequestError(InferenceError):
    """A request that is not answered.

    Args:
        status: The HTTP status.
        message: What is wrong, for the client.
        headers: Further response headers.
    """

    def __init__(self, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message, status=status)
        self.headers = headers


def refusal(error: BaseException) -> RequestError:
    """Turn what a model or a parser raised into the answer that the client gets; faults of the model are logged."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InferenceError):
        return RequestError(400, error.message)
    if isinstance(error, (ValueError, TypeError, OverflowError)):
        return RequestError(400, f"the model refuses the input: {_first_line(error)}")
    if isinstance(error, MemoryError):
        return RequestError(503, "the server has no memory left for this request")
    logger.error("the model failed", exc_info=error)
    return RequestError(500, f"the model failed: {type(error).__name__}: {_first_line(error)}")


def error_body(message: str) -> bytes:
    """Return the protocol's error object."""
    return orjson.dumps({"error": message})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]

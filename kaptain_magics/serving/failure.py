"""How a server or router that ends by itself says why: a line in its log, and a file for its starter."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import msgspec

from kaptain_magics.core.failures import Failure
from kaptain_magics.errors import KaptainError

logger = logging.getLogger("kaptain.serving")

_ERROR, _HINT = 1500, 400  # bytes at most: of a container's termination message the kubelet keeps 4096


def report_failure(error: BaseException, path: str, what: str = "the server failed") -> None:
    """Say why this process ends: one line for what was foreseen, the whole traceback for the rest.

    Args:
        error: The error.
        path: File that gets the ``Failure``; empty for none. It is written in place: on a cluster it is a mount.
        what: Begins the sentence about an error that was not foreseen.
    """
    if isinstance(error, KaptainError):
        failure = Failure(error.message, error.hint)
        logger.error("%s", " - ".join(filter(None, (error.message, error.hint))))
    else:
        failure = Failure(f"{what}: {type(error).__name__}: {error}")
        logger.error("%s", failure.error, exc_info=error)
    if path:
        with suppress(OSError):  # the log has it
            short = Failure(_cut(failure.error, _ERROR), _cut(failure.hint, _HINT))
            Path(path).write_bytes(msgspec.json.encode(short))


def clear_failure(path: str) -> None:
    """Empty the file that an earlier run of the same server, such as before a restart of its container, has written."""
    if path and Path(path).exists():
        with suppress(OSError):
            Path(path).write_bytes(b"")


def _cut(text: str, size: int) -> str:
    """Return a text in one line of at most so many bytes."""
    return " ".join(text.split()).encode("utf-8", "replace")[:size].decode("utf-8", "ignore")

"""The warm workers that wait for jobs: listed, told to end, and kept few."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from kaptain_magics.errors import TargetError
from kaptain_magics.processes.protocol import connect, exchange, worker_folder
from kaptain_magics.sockets import connect_unix

_WORKERS = 12  # idle workers of a user at most


def idle_workers(leave: bool = False) -> list[int]:
    """Return the ids of warm workers of this user that have no job.

    Args:
        leave: Tell them to end; the sockets of those that were told are gone when this returns.
    """
    found = []
    if hasattr(os, "fork"):
        for path in sorted(worker_folder().iterdir()):
            if path.is_socket() and not path.suffix:  # others belong to servers
                answer = _question(path, "status")
                if answer.get("jobs") == 0:
                    found.append(int(answer["pid"]))
                    if leave:
                        _question(path, "leave")
    return found


def _question(path: Path, what: str) -> dict[str, Any]:
    """Ask a worker about itself; one that imports, or is just ending, has no answer."""
    connection = connect(path, used=False)
    if connection is None:
        return {}
    until = time.monotonic() + 1.0
    with connection, contextlib.suppress(OSError, ValueError, TargetError):
        return exchange(connection, {"do": what}, (), lambda: time.monotonic() > until)
    return {}


def retire(folder: Path, idle: float) -> None:
    """Let go of the oldest workers where there are many; without a socket they end when they have nothing to do.

    Sockets of workers that were killed are removed too.

    Args:
        folder: The workers' folder.
        idle: Seconds of which an idle worker does not live longer.
    """
    with contextlib.suppress(OSError):
        sockets = sorted((path.stat().st_mtime, path) for path in folder.iterdir() if path.is_socket())
        dead = [path for used, path in sockets if time.time() - used > idle and not _answers(path)]
        living = [path for _, path in sockets if path not in dead]
        for path in (*dead, *living[: max(0, len(living) - _WORKERS + 1)]):
            path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether a worker listens; asked only of those that are busy or dead, since it makes an idle one live longer."""
    with contextlib.suppress(OSError):
        connect_unix(path, 1.0).close()
        return True
    return False

"""The warm workers that wait for jobs: listed, asked to end, and kept few."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from kaptain_magics.errors import TargetError
from kaptain_magics.processes.memory import own_bytes, shortage, whole
from kaptain_magics.processes.protocol import connect, exchange, worker_folder
from kaptain_magics.sockets import connect_unix

_WORKERS = 12  # idle workers of a user at most
_READIED = 1 << 29  # bytes that must be free before one is started ahead: pandas and scikit-learn hold 0.2 GB
_SHARE = 0.2  # of the memory, that idle workers hold together before none is started ahead any more
_LEAVING = 1.0  # seconds for a worker to answer, and to end when it was asked to
_KIND_KEPT = 86400.0  # seconds for which it is known what workers of a kind held


def idle_workers(leave: bool = False) -> list[int]:
    """Return the ids of warm workers of this user that have no job.

    Args:
        leave: Ask them to end; the sockets of those that were asked are gone when this returns.
    """
    workers = []
    if hasattr(os, "fork"):
        for path in sorted(worker_folder().iterdir()):
            if path.is_socket() and not path.suffix:  # others belong to servers
                answer = _question(path, "status")
                if answer.get("jobs") == 0:
                    workers.append(int(answer["pid"]))
                    if leave:
                        _question(path, "leave")
    return workers


def crowded() -> bool:
    """Whether no worker should be started ahead of its use: memory is short, or idle workers hold much of it."""
    held = sum(own_bytes(pid) for pid in idle_workers())
    return bool(shortage(None, _READIED)) or held > whole() * _SHARE > 0


def make_room(folder: Path, reserve: float | None, needed: int) -> str:
    """End idle workers while memory is short, the one that was used longest ago first.

    Args:
        folder: The workers' folder.
        reserve: Bytes that are to stay free; see ``memory.shortage``.
        needed: Bytes that the worker to come is expected to hold.

    Returns:
        What was done, in a sentence; empty where nothing was.
    """
    ended, reason = 0, ""
    for path in _oldest_first(folder):
        short = shortage(reserve, needed)
        if not short:
            break
        answer = _question(path, "status")
        if answer.get("jobs") == 0:
            _question(path, "leave", short)
            until = time.monotonic() + _LEAVING
            while Path(f"/proc/{answer['pid']}").exists() and time.monotonic() < until:
                time.sleep(0.01)
            ended, reason = ended + 1, reason or short
    return f"Ended {ended} idle warm worker{'s' * (ended > 1)}: {reason}." if ended else ""


def _question(path: Path, what: str, reason: str = "") -> dict[str, Any]:
    """Ask a worker about itself; one that imports, or is just ending, has no answer."""
    connection = connect(path, used=False)
    if connection is None:
        return {}
    until = time.monotonic() + _LEAVING
    with connection, contextlib.suppress(OSError, ValueError, TargetError):
        return exchange(connection, {"do": what, "reason": reason}, (), lambda: time.monotonic() > until)
    return {}


def retire(folder: Path, idle: float) -> None:
    """Let go of the oldest workers where there are many; without a socket they end when they have nothing to do.

    Sockets of workers that were killed are removed too.

    Args:
        folder: The workers' folder.
        idle: Seconds of which an idle worker does not live longer.
    """
    with contextlib.suppress(OSError):
        sockets = _oldest_first(folder)
        dead = [path for path in sockets if time.time() - path.stat().st_mtime > idle and not _answers(path)]
        living = [path for path in sockets if path not in dead]
        forgotten = [path for path in folder.glob("*.json") if time.time() - path.stat().st_mtime > _KIND_KEPT]
        for path in (*forgotten, *dead, *living[: max(0, len(living) - _WORKERS + 1)]):
            path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether a worker listens; asked only of those that are busy or dead, since it makes an idle one live longer."""
    with contextlib.suppress(OSError):
        connect_unix(path, 1.0).close()
        return True
    return False


def _oldest_first(folder: Path) -> list[Path]:
    """Return the sockets of workers, the one that was used longest ago first."""
    used = {}
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.is_socket():
                used[path] = path.stat().st_mtime
    return sorted(used, key=used.__getitem__)

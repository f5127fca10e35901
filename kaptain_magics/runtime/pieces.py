"""Content on its way through the job's channel: pieces of base64, each a line."""

from __future__ import annotations

import base64
import os
import zlib
from typing import Any

from kaptain_magics.runtime.channel import emit

_PIECES = {"file": 256 * 1024, "stdout": 8 * 1024}  # bytes of a line; container runtimes cut lines at 16 KiB


def channel_kind() -> str:
    """Return whether the channel is a ``file`` or ``stdout``; empty outside a job."""
    return os.environ.get("KAPTAIN_CHANNEL", "").partition(":")[0]


def send(kind: str, key: str, data: bytes, **facts: Any) -> None:
    """Send content.

    Args:
        kind: What it is: ``display`` or ``file``.
        key: Its name.
        data: The content.
        **facts: Further fields of its first piece.
    """
    size = _PIECES.get(channel_kind(), 1 << 20)
    pieces = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    for number, piece in enumerate(pieces):
        first = {"pieces": len(pieces), "crc": zlib.crc32(data), **facts} if number == 0 else {}
        text = base64.b64encode(piece).decode()
        emit({"kind": kind, "key": key, "piece": number, "data": text, **first})

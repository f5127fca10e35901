"""How long ago something was, as people say it."""

from __future__ import annotations

import time

_UNITS = ((86400.0, "day"), (3600.0, "h"), (60.0, "min"))  # seconds of a unit, the longest first


def ago(seconds: float, now: float | None = None) -> str:
    """Return ``just now``, ``3 min ago``, ``2 h ago`` or ``5 days ago``.

    Args:
        seconds: When it was, in seconds since 1970; 0 where that is unknown.
        now: The time to count from; the present when not given.
    """
    if not seconds:
        return "at an unknown time"
    passed = (time.time() if now is None else now) - seconds
    for length, unit in _UNITS:
        count = int(passed // length)
        if count >= 1:
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "just now"

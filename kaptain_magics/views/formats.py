"""Numbers, times and sizes as people read them."""

from __future__ import annotations

import math
import time


def number(value: float) -> str:
    """Return a number with five significant digits; whole numbers below a million are written out."""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e6):
        return str(int(value))
    return f"{value:.5g}"


def duration(seconds: float) -> str:
    """Return ``0.42 s``, ``12.3 s``, ``1 min 05 s`` or ``2 h 03 min``."""
    seconds = max(0.0, seconds)
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Return a number of bytes as ``512 B``, ``321 KiB``, ``1.2 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def local_time(seconds: float) -> str:
    """Return a time of 1970-based seconds as local ``2021-12-10 19:29``."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""


def log_line(seconds: float, message: str, level: str = "INFO", pattern: str = "%Y-%m-%d %H:%M:%S,%f") -> str:
    """Return a line of kaptain's own in the tutorial's form, in local time.

    For example ``2021-12-10 19:29:31,544 kaptain-log[INFO]: Model training is completed.``

    Args:
        seconds: The time, since 1970.
        message: The text.
        level: Name of the level.
        pattern: Form of the time, as ``strftime`` takes it; ``%f`` are milliseconds.
    """
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    stamp = time.strftime(pattern.replace("%f", f"{milliseconds:03d}"), time.localtime(whole))
    return f"{stamp} kaptain-log[{level}]: {message}"


def clip(text: str, width: int) -> str:
    """Return ``text``, cut to ``width`` characters with an ellipsis where it is longer."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"

"""Waiting for conditions, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def until(condition: Callable[[], _T], seconds: float = 60.0, what: str = "") -> _T:
    """Return the condition's first true value.

    Raises:
        AssertionError: It did not come in time.
    """
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what or condition} did not come true in {seconds:g} s"
        time.sleep(0.02)

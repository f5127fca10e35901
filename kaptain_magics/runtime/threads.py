"""How many threads numerical libraries may use: they count the machine's cores, not a container's share."""

from __future__ import annotations

import math
import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def available_cores() -> int:
    """Return the cores that this process may run on, which are fewer than the machine's where it is pinned to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_limits(cores: float | None) -> dict[str, str]:
    """Return the environment that keeps libraries to so many cores; empty where none are named.

    Args:
        cores: Cores that the work may use; a part of one counts as one.
    """
    return {} if cores is None else dict.fromkeys(THREAD_VARIABLES, str(max(1, math.ceil(cores))))

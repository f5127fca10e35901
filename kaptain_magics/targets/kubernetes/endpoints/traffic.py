"""How replicas share an endpoint's requests."""

from __future__ import annotations

from collections.abc import Mapping

_CLOSE_ENOUGH = 0.04  # four points: 30 % of the requests may be 26 to 34
MOST = 10  # replicas that a canary may need in all


def split(percent: int, at_least: int, at_most: int = MOST) -> tuple[int, int]:
    """Return how many replicas of the stable revision and of the canary give the canary about that share.

    A Service gives every ready replica the same share of new connections.

    Args:
        percent: The canary's share, from 1 to 99.
        at_least: Replicas of the stable revision at least.
        at_most: Replicas in all at most.

    Returns:
        The fewest replicas that come within four points, else those that come nearest.
    """
    share = percent / 100
    best, error = (max(1, at_least), 1), 1.0
    for total in range(max(1, at_least) + 1, max(at_most, at_least + 1) + 1):
        canary = min(max(1, round(total * share)), total - max(1, at_least))
        off = abs(canary / total - share)
        if off < error - 1e-9:
            best, error = (total - canary, canary), off
        if error <= _CLOSE_ENOUGH:
            break
    return best


def shares(ready: Mapping[str, int]) -> dict[str, int]:
    """Return the percentage of requests that every revision gets, from its ready replicas; they add up to 100."""
    total = sum(ready.values())
    if not total:
        return {}
    percent = {revision: count * 100 // total for revision, count in ready.items() if count}
    largest = max(percent, key=lambda revision: ready[revision])
    percent[largest] += 100 - sum(percent.values())
    return percent

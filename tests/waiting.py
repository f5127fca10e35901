"""Waiting for conditions, never for time: in the package, for the suites of ``kaptain_magics.testing``."""

from kaptain_magics.testing.waiting import until

__all__ = ["until"]

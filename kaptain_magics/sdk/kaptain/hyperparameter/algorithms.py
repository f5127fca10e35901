"""The algorithms of a search."""

from kaptain_magics.tuning.algorithms import Algorithm

__all__ = ["Algorithm"]

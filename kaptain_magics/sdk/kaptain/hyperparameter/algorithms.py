"""The algorithms of a search."""

from kaptain_magics.core.algorithms import Algorithm

__all__ = ["Algorithm"]

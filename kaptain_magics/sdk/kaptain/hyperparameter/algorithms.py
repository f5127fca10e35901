"""``Algorithm``: the search algorithms, by Katib's names."""

from kaptain_magics.core.algorithms import Algorithm

__all__ = ["Algorithm"]

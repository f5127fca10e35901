"""``Algorithm``: the search algorithms, by Katib's names."""

from kaptain_magics.core.algorithm_names import Algorithm

__all__ = ["Algorithm"]

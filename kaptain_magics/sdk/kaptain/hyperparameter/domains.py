"""The values that a hyperparameter may take."""

from kaptain_magics.core.domains import Categorical, Discrete, Domain, Double, Integer

__all__ = ["Categorical", "Discrete", "Domain", "Double", "Integer"]

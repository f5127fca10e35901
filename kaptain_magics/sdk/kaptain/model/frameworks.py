"""``ModelFramework``: the libraries whose models are trained and served."""

from kaptain_magics.core.frameworks import ModelFramework

__all__ = ["ModelFramework"]

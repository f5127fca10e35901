"""``ModelFramework``."""

from kaptain_magics.core.frameworks import ModelFramework

__all__ = ["ModelFramework"]

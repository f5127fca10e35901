"""``Resources``."""

from kaptain_magics.core.resources import Resources

__all__ = ["Resources"]

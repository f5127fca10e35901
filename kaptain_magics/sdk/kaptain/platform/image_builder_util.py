"""``ImageBuilderUtil``."""

from kaptain_magics.model.images import ImageBuilderUtil

__all__ = ["ImageBuilderUtil"]

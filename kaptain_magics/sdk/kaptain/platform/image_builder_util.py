"""``ImageBuilderUtil``."""

from kaptain_magics.model.contract.image_builder import ImageBuilderUtil

__all__ = ["ImageBuilderUtil"]

"""``ImageBuilderUtil``: builds and pushes an image from a Dockerfile or a base image."""

from kaptain_magics.model.contract.image_builder import ImageBuilderUtil

__all__ = ["ImageBuilderUtil"]

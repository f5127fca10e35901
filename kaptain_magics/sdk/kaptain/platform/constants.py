"""Kinds of volumes and environment sources of a transformer."""

from kaptain_magics.model.contract.transformer import CONFIG_MAP_KIND, SECRET_KIND

__all__ = ["CONFIG_MAP_KIND", "SECRET_KIND"]

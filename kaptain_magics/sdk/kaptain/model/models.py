"""``Model``."""

from kaptain_magics.core.resources import Resources
from kaptain_magics.model.model import Model, ModelMeta

__all__ = ["Model", "ModelMeta", "Resources"]

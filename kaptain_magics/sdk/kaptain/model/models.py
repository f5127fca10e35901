"""``Model``: trains, tunes and serves; what the magics call."""

from kaptain_magics.core.resources import Resources
from kaptain_magics.model.contract.sdk_model import Model
from kaptain_magics.model.meta import ModelMeta

__all__ = ["Model", "ModelMeta", "Resources"]

"""``Transformer``."""

from kaptain_magics.model.transformer import Transformer

__all__ = ["Transformer"]

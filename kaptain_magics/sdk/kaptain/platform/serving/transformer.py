"""``Transformer``."""

from kaptain_magics.model.contract.transformer import Transformer

__all__ = ["Transformer"]

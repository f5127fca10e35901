"""``Transformer``: a container of KServe that prepares requests and answers."""

from kaptain_magics.model.contract.transformer import Transformer

__all__ = ["Transformer"]

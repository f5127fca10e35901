"""The provider that is taken where none is named."""

from kaptain_magics.model.contract.config import DefaultMinioConfigurationProvider

__all__ = ["DefaultMinioConfigurationProvider"]

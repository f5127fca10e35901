"""The logins of registries."""

from kaptain_magics.model.contract.config import DockerConfigurationProvider

__all__ = ["DockerConfigurationProvider"]

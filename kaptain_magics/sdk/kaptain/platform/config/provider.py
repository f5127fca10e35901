"""What providers of credentials have in common."""

from kaptain_magics.model.contract.config import (
    ConfigurationProvider,
    EnvironmentVariableConfigurationProvider,
    FileBasedConfigurationProvider,
)

__all__ = ["ConfigurationProvider", "EnvironmentVariableConfigurationProvider", "FileBasedConfigurationProvider"]

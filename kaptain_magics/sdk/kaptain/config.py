"""Where credentials, the object store and the registry are: the SDK's providers."""

from kaptain_magics.model.contract.config import (
    Config,
    ConfigurationProvider,
    DefaultMinioConfigurationProvider,
    DockerConfigurationProvider,
    DockerRegistryCertificateProvider,
    EnvironmentVariableConfigurationProvider,
    FileBasedConfigurationProvider,
    S3ConfigurationProvider,
)

__all__ = [
    "Config",
    "ConfigurationProvider",
    "DefaultMinioConfigurationProvider",
    "DockerConfigurationProvider",
    "DockerRegistryCertificateProvider",
    "EnvironmentVariableConfigurationProvider",
    "FileBasedConfigurationProvider",
    "S3ConfigurationProvider",
]

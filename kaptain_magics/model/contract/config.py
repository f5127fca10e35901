"""Credentials and places as the contract names them: ``Config`` and its providers. No secret is ever in a repr."""

from __future__ import annotations

import base64
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from kaptain_magics.config import Settings
from kaptain_magics.errors import ConfigError
from kaptain_magics.files import disk_error, private_folder, write_whole
from kaptain_magics.model.context import Context
from kaptain_magics.runtime.text_values import is_true

DEFAULT_REGION = "us-east-1"


class ConfigurationProvider(ABC):
    """Turns a user's credentials into the content of a Secret."""

    @abstractmethod
    def get_secret_body(self) -> dict[str, str]:
        """Return the Secret's content by key; secret!"""


class FileBasedConfigurationProvider(ConfigurationProvider):
    """A provider that can be read from a file."""

    @classmethod
    @abstractmethod
    def from_file(cls, path: str) -> Self:
        """Read the credentials from a file."""


class EnvironmentVariableConfigurationProvider(ConfigurationProvider):
    """A provider that can be read from environment variables."""

    @classmethod
    @abstractmethod
    def from_env(cls) -> Self:
        """Read the credentials from the environment."""


@dataclass
class DockerConfigurationProvider(FileBasedConfigurationProvider):
    """Registry credentials in the form of Docker's ``config.json``.

    Args:
        config_json: The file's text.
        config_path: Where it was read.
    """

    config_json: str = field(repr=False)
    config_path: str | None = None

    @classmethod
    def default(cls) -> DockerConfigurationProvider:
        """Read ``~/.docker/config.json``.

        Raises:
            ConfigError: It is missing.
        """
        return cls.from_file(str(Path.home() / ".docker" / "config.json"))

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Read the credentials from a file."""
        return cls(_text(path, "docker login writes it"), path)

    def get_secret_body(self) -> dict[str, str]:
        """Return the content of a ``kubernetes.io/dockerconfigjson`` Secret."""
        return {".dockerconfigjson": base64.b64encode(self.config_json.encode()).decode()}


@dataclass
class DockerRegistryCertificateProvider(FileBasedConfigurationProvider):
    """Certificate of a private registry's authority.

    Args:
        certificate_body: The certificate (PEM).
        certificate_path: Where it was read.
    """

    certificate_body: str = field(repr=False)
    certificate_path: str | None = None

    @classmethod
    def default(cls) -> DockerRegistryCertificateProvider:
        """Read ``~/.tls/certificate.crt``; raises as ``from_file``."""
        return cls.from_file(str(Path.home() / ".tls" / "certificate.crt"))

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Read the certificate from a file."""
        return cls(_text(path, "ask the registry's owner for its certificate"), path)

    def get_secret_body(self) -> dict[str, str]:
        """Return the content of the Secret."""
        return {"certificate.crt": self.certificate_body}


@dataclass
class S3ConfigurationProvider(FileBasedConfigurationProvider, EnvironmentVariableConfigurationProvider):
    """Address and credentials of an S3 server.

    Args:
        aws_access_key_id: Access key.
        aws_secret_access_key: Secret key.
        aws_session_token: Session token of temporary credentials.
        region_name: Region.
        s3_endpoint: Address, with or without a scheme; AWS when empty.
        s3_signature_version: Signature version.
        s3_force_path_style: Put the bucket into the path instead of the host name.
    """

    aws_access_key_id: str = field(repr=False)
    aws_secret_access_key: str = field(repr=False)
    aws_session_token: str | None = field(default=None, repr=False)
    region_name: str = DEFAULT_REGION
    s3_endpoint: str | None = None
    s3_signature_version: str | None = None
    s3_force_path_style: bool = False

    @classmethod
    def default(cls) -> Self:
        """Read ``~/.aws/credentials``, its profile of the environment or ``default``; raises as ``from_file``."""
        return cls.from_file(str(Path.home() / ".aws" / "credentials"))

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Read the credentials from a file in the form of the AWS tools."""
        from kaptain_magics.storage.credentials import storage_env

        _text(path, "aws configure writes it")
        return cls._from(storage_env({"AWS_SHARED_CREDENTIALS_FILE": path, "HOME": str(Path.home())}))

    @classmethod
    def from_env(cls) -> Self:
        """Read the credentials from the environment."""
        return cls._from(os.environ)

    @classmethod
    def _from(cls, env: Mapping[str, str]) -> Self:
        try:
            keys = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
        except KeyError as error:
            raise ConfigError(f"{error.args[0]} is not set", "set it, or write ~/.aws/credentials") from None
        return cls(
            *keys,
            aws_session_token=env.get("AWS_SESSION_TOKEN"),
            region_name=env.get("AWS_REGION", DEFAULT_REGION),
            s3_endpoint=env.get("S3_ENDPOINT"),
            s3_signature_version=env.get("S3_SIGNATURE_VERSION"),
            s3_force_path_style=is_true(env.get("S3_FORCE_PATH_STYLE", "")),
        )

    def get_secret_body(self) -> dict[str, str]:
        """Return the environment variables that give a job access; secret!"""
        values = {
            "AWS_ACCESS_KEY_ID": self.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws_secret_access_key,
            "AWS_SESSION_TOKEN": self.aws_session_token,
            "AWS_REGION": self.region_name,
            "S3_ENDPOINT": self.s3_endpoint,
            "S3_SIGNATURE_VERSION": self.s3_signature_version,
            "S3_FORCE_PATH_STYLE": "true" if self.s3_force_path_style else None,
        }
        return {k: v for k, v in values.items() if v}


class DefaultMinioConfigurationProvider(S3ConfigurationProvider):
    """The platform's own MinIO, by the names that its notebooks have."""

    @classmethod
    def default(cls) -> Self:
        """Read the credentials from the environment, else ``~/.aws/credentials``."""
        return cls.from_env() if "AWS_ACCESS_KEY_ID" in os.environ else super().default()


@dataclass
class Config:
    """Credentials and places.

    Args:
        docker_config_provider: Registry credentials; only needed where an image is pushed or pulled.
        storage_config_provider: The object store; a directory when not given.
        docker_registry_url: ``host:port`` of a private registry that speaks HTTPS.
        docker_registry_certificate_provider: Its authority's certificate.
        base_dir: Where relative paths begin.
        base_model_storage_uri: Folder of the object store for all models.
    """

    docker_config_provider: DockerConfigurationProvider | None = None
    storage_config_provider: S3ConfigurationProvider | None = None
    docker_registry_url: str | None = None
    docker_registry_certificate_provider: DockerRegistryCertificateProvider | None = None
    base_dir: str = field(default_factory=os.getcwd)
    base_model_storage_uri: str = ""

    @classmethod
    def default(cls) -> Config:
        """Return what the usual places have: nothing that is missing there is demanded before it is needed."""
        docker = Path.home() / ".docker" / "config.json"
        return cls(DockerConfigurationProvider.default() if docker.exists() else None)

    def workspace(self) -> Context:
        """Return a workspace under these credentials and places."""
        uri = self.base_model_storage_uri
        if not uri and self.storage_config_provider is not None:
            uri = "s3://kaptain/models"
        docker, certificate = self.docker_config_provider, self.docker_registry_certificate_provider
        private = Path(Settings.load().cache) / "registries"
        settings = Settings.load(
            {
                "storage_uri": uri,
                "registry": self.docker_registry_url,
                "docker_config": docker and _file(docker.config_json, docker.config_path, private / "login"),
                "registry_certificate": certificate
                and _file(certificate.certificate_body, certificate.certificate_path, private / "authority"),
            }
        )
        provider = self.storage_config_provider
        return Context(settings, provider.get_secret_body() if provider is not None else None)


def _file(text: str, path: str | None, private: Path) -> str:
    """Return a file with that text: the one that it was read from, else one that only this user can read.

    A run goes on without the process that started it, so what it needs must lie somewhere.

    Raises:
        StateError: The file cannot be written.
    """
    with suppress(OSError, ValueError):
        if path and Path(path).expanduser().read_text("utf-8") == text:
            return path
    try:
        for existing in private.glob("*/text"):
            if existing.read_text("utf-8") == text:
                return str(existing)
        private_folder(private)
        kept = Path(tempfile.mkdtemp(dir=private)) / "text"
    except OSError as error:
        raise disk_error(error, private) from error
    write_whole(kept, text.encode())
    return str(kept)


def _text(path: str, hint: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint) from error

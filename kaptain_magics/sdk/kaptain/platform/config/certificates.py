"""The certificate of a private registry."""

from kaptain_magics.model.contract.config import DockerRegistryCertificateProvider

__all__ = ["DockerRegistryCertificateProvider"]

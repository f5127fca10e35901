"""The address and credentials of an S3 server."""

from kaptain_magics.model.contract.config import S3ConfigurationProvider

__all__ = ["S3ConfigurationProvider"]

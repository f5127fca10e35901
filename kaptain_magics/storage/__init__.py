"""The object store: a directory, or any S3 server, behind one protocol."""

from __future__ import annotations

from collections.abc import Mapping

from kaptain_magics.runtime.directory import Entry
from kaptain_magics.runtime.location import Location
from kaptain_magics.runtime.manifest import MANIFEST, Manifest
from kaptain_magics.runtime.transfer import Artifact
from kaptain_magics.storage.base import ObjectStore, translate_errors

__all__ = ["MANIFEST", "Artifact", "Entry", "Manifest", "ObjectStore", "open_store"]


def open_store(uri: str, env: Mapping[str, str]) -> ObjectStore:
    """Return the store that holds ``uri``; nothing is asked of it yet.

    Args:
        uri: Its base folder, ``file:///...`` or ``s3://bucket/...``; only what is below it can be deleted.
        env: For S3 the settings and credentials, as ``credentials.storage_env`` returns them.

    Raises:
        StorageError: The URI or a setting cannot be used.
    """
    with translate_errors():
        base = Location.parse(uri)
        if not base.bucket:
            from kaptain_magics.storage.directory_store import DirectoryStore

            return DirectoryStore(base)
        from kaptain_magics.storage.s3_store import S3Store

        return S3Store(base, env)

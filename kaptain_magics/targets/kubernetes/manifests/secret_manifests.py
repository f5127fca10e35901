"""Secrets: access to the object store, to the registry, and the payload of a job."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from kaptain_magics.core.secrets import MASK
from kaptain_magics.targets.kubernetes.api.kinds import Manifest


def secret(metadata: Manifest, texts: Mapping[str, str]) -> Manifest:
    """Return a secret of texts, such as environment variables."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": dict(texts)}


def binary_secret(metadata: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Return a secret of files."""
    data = {name: base64.b64encode(content).decode("ascii") for name, content in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def pull_secret(metadata: Manifest, docker_config: str) -> Manifest:
    """Return a secret to pull images with.

    Args:
        metadata: Its metadata.
        docker_config: Content of a ``config.json`` with the registry's credentials.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": docker_config},
    }


def masked(manifest: Manifest) -> Manifest:
    """Return a manifest that can be shown: a secret's values are masked, and it is still accepted by the server."""
    if manifest.get("kind") != "Secret":
        return manifest
    shown: dict[str, Any] = dict(manifest)
    if manifest["type"] == "kubernetes.io/dockerconfigjson":
        shown["stringData"] = {".dockerconfigjson": '{"auths": {}}'}
        return shown
    for field, hidden in (("stringData", MASK), ("data", base64.b64encode(MASK.encode()).decode())):
        if field in manifest:
            shown[field] = dict.fromkeys(manifest[field], hidden)
    return shown

"""Credentials of image registries, for the pods that pull from them."""

from __future__ import annotations

import json
import os
from pathlib import Path


def credentials(image: str) -> str:
    """Return a ``config.json`` with the credentials of an image's registry; empty where there are none.

    Args:
        image: The image's name.
    """
    folder = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    try:
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    host = registry_of(image)
    for name, entry in config.get("auths", {}).items():
        plain = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if plain == host and entry:
            return json.dumps({"auths": {name: entry}})
    return ""


def registry_of(image: str) -> str:
    """Return the registry of an image: what stands before the first slash and looks like a host."""
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return first if is_host else "index.docker.io"

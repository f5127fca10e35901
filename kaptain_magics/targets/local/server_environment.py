"""What a server of a model is started with: the folder of its model, and its environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import ServingError
from kaptain_magics.runtime.threads import thread_limits

_WORKSPACE = ("AWS_", "S3_", "KAPTAIN_TOKEN", "KAPTAIN_HOME")  # variables that no server is to see


def artifact(spec: EndpointSpec) -> Path:
    """Return the folder on this machine that is served."""
    parts = urlsplit(spec.artifact_uri)
    if parts.scheme != "file":
        raise ServingError(f"the local target serves folders, not {spec.artifact_uri}", "fetch it and pass a file: URI")
    return Path(url2pathname(parts.path))


def _import_path() -> str:
    """Return the folder that ``kaptain_magics`` is imported from, for ``PYTHONPATH``; empty when it is installed."""
    root = Path(__file__).resolve().parents[3]
    return "" if root.name in ("site-packages", "dist-packages") else str(root)


def base_environment() -> dict[str, str]:
    """Return this process's environment without what only it should have, such as credentials."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_WORKSPACE)}
    path = [_import_path(), env.get("PYTHONPATH", "")]
    if any(path):
        env["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return env


def environment(spec: EndpointSpec, token: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a deployment's server.

    Args:
        spec: The deployment.
        token: The token that requests need, empty for none.
        variables: The variables that it was given.
    """
    env = thread_limits(spec.resources.cores) | base_environment()  # a number that a person has set is kept
    if token:
        env["KAPTAIN_TOKEN"] = token
    return {**env, **variables}


def is_free(host: str, port: int) -> bool:
    """Whether a port can be bound now; another process may take it a moment later."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True

"""The options of our server that its spec decides, on any target."""

from __future__ import annotations

from typing import Any

from kaptain_magics.core.specs import EndpointOptions, EndpointSpec

GRPC_PORT = "grpc_port"  # ``--serving`` names options of the loader, and this one of the server


def common_options(spec: EndpointSpec, folder: str) -> dict[str, Any]:
    """Return the options of a server, as its JSON file has them; the target adds addresses, sockets and limits.

    Args:
        spec: The endpoint.
        folder: Where the server finds the model.
    """
    return {
        "model_name": spec.name,
        "folder": folder,
        "framework": spec.framework.value,
        "version": spec.revision,
        "files": spec.files,
        "serving_config": {name: value for name, value in spec.serving_config.items() if name != GRPC_PORT},
        "workers": spec.workers,
    }


def asks_for_replicas(spec: EndpointSpec) -> bool:
    """Whether an endpoint has options of replicas that are not the plain ones."""
    plain = EndpointOptions()
    return any(getattr(spec, name) != getattr(plain, name) for name in ("autoscale", "min_replicas", "max_replicas"))

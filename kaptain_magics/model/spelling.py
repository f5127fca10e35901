"""Options as a line of a magic would spell them, for the lines that say what was taken over or kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.specs import ImageSpec


def spelled(name: str, value: Any) -> list[str]:
    """Return a field of a request as options; values of environment variables are never shown.

    Args:
        name: The field, such as ``min_replicas``.
        value: Its value.
    """
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, Resources):
        return spelled_resources(value)
    if isinstance(value, ImageSpec):
        return _named({"base-image": value.base_image, "image-name": value.image_name})
    if isinstance(value, Capture):
        metrics = [f"--metric {metric}={variable}" for metric, variable in value.metrics.items()]
        return [*_named({"model": value.model}), *metrics, *_named({"send": ",".join(value.send)})]
    if isinstance(value, Mapping):
        return [f"{option} {key}" for key in value]
    if value is True:
        return [option]
    match name:
        case "args":
            return [f'{option} "{" ".join(value)}"']
        case "files":
            return [f"{option} {','.join(Path(file).name for file in value)}"]
        case "requirements":
            return [f"{option} (lines: {len(value)})"]
    return [f"{option} {value}"]


def spelled_resources(resources: Resources) -> list[str]:
    """Return the options that stand for limits, or for requests where there is no limit."""
    cpu, memory = resources.cpu_limit or resources.cpu_request, resources.memory_limit or resources.memory_request
    return _named({"cpu": cpu, "memory": memory, "gpus": resources.gpu_limit})


def _named(values: Mapping[str, object]) -> list[str]:
    return [f"--{name} {value}" for name, value in values.items() if value]

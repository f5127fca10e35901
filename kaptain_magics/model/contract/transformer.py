"""The contract's transformer: a container between the endpoint and its callers, on KServe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

CONFIG_MAP_KIND = "ConfigMap"
SECRET_KIND = "Secret"


@dataclass(frozen=True)
class Transformer:
    """A transformer.

    Args:
        image_name: Its image.
        args: The container's arguments.
        volumes: ConfigMaps and Secrets to mount: ``{"name": ..., "type": CONFIG_MAP_KIND, "path": ...}``.
        env_from: A ConfigMap or Secret whose keys become environment variables: ``{"name": ..., "type": ...}``.
    """

    image_name: str
    args: Sequence[str] = ()
    volumes: Sequence[Mapping[str, str]] = ()
    env_from: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return it as the ``transformer`` of an ``EndpointSpec``."""
        return asdict(self)

"""What some targets have and others lack: an option that needs it is refused where it would be ignored."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol, runtime_checkable

from kaptain_magics.errors import TargetError
from kaptain_magics.targets.base import Target


class Feature(StrEnum):
    """Something that an option needs; its value completes "the local target has no"."""

    CLUSTER = "cluster"
    IMAGES = "container images"
    SERVER_IMAGES = "images of its own for servers"
    WORKERS = "distributed training"
    REPLICAS = "replicas"
    ADDRESS = "address to choose"


_HINTS = {
    Feature.CLUSTER: "leave it out, or name a target that has one, as with --on kubernetes",
    Feature.IMAGES: "leave it out, or name a target that has them, as with --on docker",
    Feature.SERVER_IMAGES: "name the server's image with --base-image",
    Feature.WORKERS: "leave it out, or name a target that has it, as with --on kubernetes",
    Feature.REPLICAS: "use --workers for several processes, or name a target that has them, as with --on kubernetes",
    Feature.ADDRESS: "leave it out: the cluster gives the endpoint its address",
}


@runtime_checkable
class LimitedTarget(Protocol):
    """A target that says what it has; one that does not say is given every option."""

    features: frozenset[Feature]


def has_feature(target: Target, feature: Feature) -> bool:
    """Whether a target has a feature, as far as it says."""
    return not isinstance(target, LimitedTarget) or feature in target.features


def check_features(target: Target, needed: Mapping[str, Feature]) -> None:
    """Refuse options that a target would ignore.

    Args:
        target: The target.
        needed: What each of the named options needs, by the option as it is written.

    Raises:
        TargetError: The target has no such thing.
    """
    for option, feature in needed.items():
        if not has_feature(target, feature):
            raise TargetError(f"{option}: the {target.name} target has no {feature}", _HINTS[feature])

"""What a target is given of the settings in force, and the environment that opens the object store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.targets.base import TargetConfig

if TYPE_CHECKING:
    from kaptain_magics.config import Settings


def storage_environment(settings: Settings, secrets: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables that give access to the object store; empty for a directory.

    Args:
        settings: Where the store is.
        secrets: Credentials that stand above those of the environment and of files.
    """
    if not settings.models_uri.startswith("s3://"):
        return {}
    from kaptain_magics.storage.credentials import storage_env

    named = {
        "S3_ENDPOINT": settings.s3_endpoint,
        "AWS_REGION": settings.s3_region,
        "AWS_PROFILE": settings.aws_profile,
    }
    return storage_env({**os.environ, **{k: v for k, v in named.items() if v}, **(secrets or {})})


def target_config(settings: Settings, secrets: Mapping[str, str] | None = None) -> TargetConfig:
    """Return what a target is opened with under these settings."""
    return TargetConfig(
        home=Path(settings.home),
        cache=Path(settings.cache),
        settings={k: v.lower() if v in ("True", "False") else v for k, v in settings.as_texts().items()},
        storage_env=storage_environment(settings, secrets),
    )

"""A model's properties at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kaptain_magics.core.frameworks import ModelFramework


@dataclass(frozen=True)
class ModelMeta:
    """A snapshot of a model's properties; see ``Plannable``."""

    id: str
    name: str
    description: str
    version: str
    framework: ModelFramework | None
    framework_version: str
    main_file: str
    image_name: str
    base_image: str
    extra_files: tuple[str, ...] = ()
    requirements: str | None = None
    labels: tuple[str, ...] = ()
    serving_config: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    state: str = "untrained"

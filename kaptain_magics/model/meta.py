"""What a model is called, and its properties at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kaptain_magics.core.frameworks import ModelFramework


class ModelName(NamedTuple):
    """What a model is called.

    Attributes:
        id: Its unique id, such as ``dev/mnist``.
        name: Its short name; jobs are named after it.
        description: What it is about.
        version: Its own version.
    """

    id: str
    name: str
    description: str = ""
    version: str = ""

    @property
    def info(self) -> dict[str, str]:
        """What a run's record says of the model beside its id."""
        return {"name": self.name, "description": self.description, "version": self.version}


@dataclass(frozen=True)
class ModelMeta:
    """A snapshot of a model's properties; see ``Model``."""

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

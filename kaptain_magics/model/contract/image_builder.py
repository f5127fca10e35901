"""Images through the model: ``Model.build`` and the contract's ``ImageBuilderUtil``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kaptain_magics.config import Settings
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import UndefinedPropertyError
from kaptain_magics.images.dockerfile_builder import ImageBuilder
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.publish import Publisher
from kaptain_magics.images.recipe import recipe
from kaptain_magics.model.contract import envs
from kaptain_magics.model.contract.console import logger
from kaptain_magics.runtime.own_requirements import OWN_PACKAGES

_STEPS = ("Skipping", "Building", "Assembling", "Pushing", "Image build")


def build_image(job: JobSpec, settings: Settings, verbose: bool | None) -> bool:
    """Build and push the image of a job unless one with the same content is there; see ``Model.build``."""
    if not job.image.image_name or not job.image.base_image:
        raise UndefinedPropertyError(
            "the model has no image to build", "set image_name (repository[:tag]) and base_image"
        )
    parts = job.script_path, job.script.source, job.placed, job.requirements
    image = recipe(job.image.image_name, job.image.base_image, *parts, own=OWN_PACKAGES)
    Publisher(Path(settings.cache), settings.as_texts()).publish(image, _logged(verbose))
    return True


def _logged(verbose: bool | None) -> Progress:
    """Return what logs a builder's lines: all of them when verbose, else those that name a step."""
    everything = envs.VERBOSE if verbose is None else verbose

    def progress(line: str) -> None:
        if line and (everything or line.startswith(_STEPS)):
            logger().info("%s", line)

    return progress


class ImageBuilderUtil:
    """Builds an image from a Dockerfile of one's own; made by ``builder``."""

    def __init__(self, builder: ImageBuilder) -> None:
        self._builder = builder

    @classmethod
    def builder(cls, image_name: str, dockerfile_content: str, files: Sequence[str] = ()) -> ImageBuilderUtil:
        """Describe the image.

        Args:
            image_name: Its name with tag.
            dockerfile_content: The Dockerfile's text.
            files: Files and folders that it copies, relative to the working folder.
        """
        settings = Settings.load()
        cache = Path(settings.cache)
        return cls(ImageBuilder(image_name, dockerfile_content, files, settings=settings.as_texts(), cache=cache))

    def build_image(self, verbose: bool | None = None) -> bool:
        """Build and push the image unless one with the same content is in its registry.

        Args:
            verbose: Show the builder's own log; ``envs.VERBOSE`` when not given.

        Raises:
            ImageError: It cannot be built or pushed.
            TargetError: There is no Docker engine.
        """
        self._builder.build_image(_logged(verbose))
        return True

"""What an image is made of, and what is known of one that is in its registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kaptain_magics.images.build_context import Context, Files, training_context
from kaptain_magics.images.registry.reference import Reference

CHECKSUM = "checksum"  # the label that holds an image's digest


class Recipe(NamedTuple):
    """A training image.

    Attributes:
        image: Its name with tag.
        base: The base image's name.
        script: The script's file name.
        context: What goes in.
        requirements: Lines of the requirements file.
        own: What the runtime in it needs, with the bounds that do.
    """

    image: str
    base: str
    script: str
    context: Context
    requirements: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


class Published(NamedTuple):
    """An image that can be run.

    Attributes:
        name: Its name with tag.
        digest: Its manifest's digest in the registry; empty when it is only in the engine.
        checksum: Digest of what it is made of.
        skipped: Whether it was there already.
    """

    name: str
    digest: str
    checksum: str
    skipped: bool = False

    @property
    def pinned(self) -> str:
        """The name that can mean nothing else."""
        if not self.digest:
            return self.name
        head, slash, tail = self.name.rpartition("/")
        return f"{head}{slash}{tail.partition(':')[0]}@{self.digest}"


def recipe(
    image: str,
    base: str,
    script: str,
    source: str,
    files: Files = (),
    requirements: Sequence[str] = (),
    own: Sequence[str] = (),
) -> Recipe:
    """Return the recipe of a training image.

    Args:
        image: The image's name with tag.
        base: The base image's name.
        script: The script's path in it.
        source: Its text.
        files: Files and folders that lie beside it, or sources by the paths that they get.
        requirements: Lines of a pip requirements file.
        own: What the runtime in it needs, with the bounds that do.

    Raises:
        ImageError: A name is none, or a file is missing or holds a secret.
    """
    Reference.parse(image)
    Reference.parse(base)
    context = training_context(script, source, files, requirements)
    return Recipe(image, base, script, context, tuple(requirements), tuple(own))


def skipping(image: str) -> str:
    """Return the line that says so, word for word as in the tutorial."""
    return (
        f"Skipping image build for the model - the image '{image}' with the same contents has already been published "
        "to the registry."
    )

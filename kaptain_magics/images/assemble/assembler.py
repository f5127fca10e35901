"""From a recipe to an image in its registry, without an engine."""

from __future__ import annotations

from pathlib import Path

from kaptain_magics.images.assemble.layers import Layer, make_layer
from kaptain_magics.images.assemble.push_layers import push_image
from kaptain_magics.images.bases import Base
from kaptain_magics.images.build_context import FOLDER, PACKAGES
from kaptain_magics.images.dockerfile import entrypoint, environment
from kaptain_magics.images.image_contents import ImageInspector
from kaptain_magics.images.lacking_packages import lacking_packages
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.recipe import CHECKSUM, Recipe
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_client import Registries


class Assembler:
    """Makes images of a base image's layers and two of ours: packages, and the script with its files.

    Args:
        registries: The registries.
        cache: Folder for things that can be made again.
        platform: ``os/architecture`` of the images.
    """

    def __init__(self, registries: Registries, cache: Path, platform: str) -> None:
        self._registries, self._cache, self._platform = registries, cache, platform
        self._inspector = ImageInspector(cache)

    def assemble(self, recipe: Recipe, base: Base, checksum: str, progress: Progress) -> str:
        """Make an image and push it; returns its manifest's digest.

        Args:
            recipe: What it is made of.
            base: Its base image; it has to be in a registry.
            checksum: Digest of everything that it is made of, for its label.
            progress: Gets lines for the reader, empty ones while work goes on.

        Raises:
            CredentialsError: A registry does not let us.
            ImageError: The image cannot be made or pushed; nothing is left in the registry then.
        """
        progress("Assembling the image without a Docker engine.")
        reference = Reference.parse(base.name)._replace(digest=base.digest)
        source = self._registries.of(reference)
        manifest = source.platform_manifest(reference, self._platform)
        layers: list[Layer] = []
        try:
            if recipe.requirements or recipe.own:
                progress(f"Looking into {reference}.")
                contents = self._inspector.in_registry(source, reference, manifest)
                packages = lacking_packages(contents, recipe, self._cache, progress)
                if packages:
                    layers.append(make_layer(packages, f"{FOLDER}/{PACKAGES}", "requirements"))
            layers.append(make_layer(recipe.context.entries, FOLDER, "script, files and runtime"))
            settings = {
                "Labels": {CHECKSUM: checksum},
                "Env": environment(),
                "WorkingDir": FOLDER,
                "Entrypoint": entrypoint(recipe.script),
            }
            target = Reference.parse(recipe.image)
            return push_image(self._registries, target, reference, manifest, layers, settings, progress)
        finally:
            for layer in layers:
                layer.file.close()

"""From a recipe to an image in its registry: skipped, built by an engine, or assembled without one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kaptain_magics.errors import ImageError, TargetError
from kaptain_magics.images.assemble.assembler import Assembler
from kaptain_magics.images.bases import Base, Bases, image_platform
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.content_digest import FileDigests, image_digest
from kaptain_magics.images.dockerfile import dockerfile, entrypoint, environment
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.engine_build import build_image, push_built
from kaptain_magics.images.image_contents import ImageContents, ImageInspector
from kaptain_magics.images.lacking_packages import lacking_packages
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.recipe import CHECKSUM, Published, Recipe, skipping
from kaptain_magics.images.registry.reference import DOCKER_HUB, Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Registries
from kaptain_magics.images.requirement_lines import is_local, local_files


class Publisher:
    """Makes images and puts them into their registries.

    Args:
        cache: Folder for things that can be made again.
        settings: Those of ``Engine`` and ``Access``, ``image_builder`` and ``image_platform``.
        engine: The engine; made of the settings when absent.
    """

    def __init__(self, cache: Path, settings: Mapping[str, str], engine: Engine | None = None) -> None:
        self._cache, self._settings = cache, settings
        self._engine = engine or Engine(settings)
        self._access = Access.of(settings)
        self._registries = Registries(self._access)
        self._bases = Bases(self._engine, self._registries, self._uses_engine)
        self._platform = image_platform(settings)

    def publish(self, recipe: Recipe, progress: Progress, keep_in_engine: bool = False) -> Published:
        """Make sure that the image is in its registry.

        Args:
            recipe: What it is made of.
            progress: Gets lines for the reader, empty ones while work goes on.
            keep_in_engine: Whether the engine will do where there is no login for Docker Hub.

        Raises:
            CredentialsError: The registry does not let us.
            ImageError: The image cannot be made or pushed; nothing is left in the registry then.
        """
        for name in recipe.context.left_out:
            progress(f"Leaving out {name}: it looks like credentials.")
        target = Reference.parse(recipe.image)
        base = self._bases.find(recipe.base)
        checksum = self.checksum(recipe, base)
        local_only = keep_in_engine and target.registry == DOCKER_HUB and not self._registries.has_login(target)
        if local_only:
            if self._engine_label(recipe.image) == checksum:
                progress(skipping(recipe.image))
                return Published(recipe.image, "", checksum, skipped=True)
        else:
            registry = self._registries.of(target)
            digest, labels = registry.digest_and_labels(target, self._platform) or ("", {})
            if labels.get(CHECKSUM) == checksum:
                progress(skipping(recipe.image))
                return Published(recipe.image, digest, checksum, skipped=True)
        if self._by_engine(base):
            self._build(recipe, base, checksum, progress)
            if local_only:
                progress(f"Keeping {recipe.image} in the Docker engine: there is no login for docker.io to push it.")
                return Published(recipe.image, "", checksum)
            progress(f"Pushing {recipe.image}.")
            push_built(self._engine, recipe.image, self._access, progress)
            digest = self._registries.of(target).digest_of(target) or ""
        else:
            assembler = Assembler(self._registries, self._cache, self._platform)
            digest = assembler.assemble(recipe, base, checksum, progress)
        progress(f"Image build completed successfully. Image pushed: {recipe.image}")
        return Published(recipe.image, digest, checksum)

    def checksum(self, recipe: Recipe, base: Base | None = None) -> str:
        """Return the digest of everything that an image is made of, whether it exists or not."""
        base = base or self._bases.find(recipe.base)
        files = FileDigests.under(self._cache)
        return image_digest(
            recipe.context.entries,
            files,
            base=base.digest,
            requirements=(
                *recipe.requirements,
                *recipe.own,
                *(files.of(path) for path in local_files(recipe.requirements)),
            ),
            entrypoint=entrypoint(recipe.script),
            settings={"platform": self._platform, **environment()},
        )

    def _engine_label(self, name: str) -> str:
        return self._engine.image_labels(name).get(CHECKSUM, "") if self._engine.answers() else ""

    @property
    def _uses_engine(self) -> bool:
        return self._settings.get("image_builder", "") != "none"

    def _by_engine(self, base: Base) -> bool:
        if not self._uses_engine:
            return False
        if self._settings.get("image_builder") == "engine" or self._engine.answers():
            return True
        if base.in_engine:
            raise ImageError(
                f"the base image {base.name} is only in a Docker engine that does not answer", "start the engine"
            )
        return False

    def _build(self, recipe: Recipe, base: Base, checksum: str, progress: Progress) -> None:
        progress("Building Docker image.")
        self._bases.pull(base, self._platform, progress)
        packages: list[Entry] = []
        pip = False
        if recipe.requirements or recipe.own:
            try:
                packages = lacking_packages(self._contents(base), recipe, self._cache, progress)
            except (ImageError, TargetError):  # no wheel, or no Python to ask: pip in the image has the last word
                if any(map(is_local, recipe.requirements)):
                    raise
                pip = bool(recipe.requirements)
        text = dockerfile(recipe.base, recipe.script, packages=bool(packages), pip=pip)
        parts = {"context": list(recipe.context.entries)}
        if packages:
            parts["packages"] = packages
        labels = {CHECKSUM: checksum}
        build_image(self._engine, recipe.image, text, parts, labels, progress, self._platform)

    def _contents(self, base: Base) -> ImageContents:
        if self._platform != self._engine.platform:
            raise ImageError(
                f"the Docker engine runs {self._engine.platform} and cannot look into an image for {self._platform}",
                "assemble the image without it: KAPTAIN_IMAGE_BUILDER=none",
            )
        inspector = ImageInspector(self._cache)
        return inspector.in_engine(self._engine, base.name, self._engine.image_id(base.name))

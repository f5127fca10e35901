"""From a recipe to an image in its registry: skipped, built by an engine, or assembled without one."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from kaptain_magics.errors import ImageError, TargetError
from kaptain_magics.images.assemble.layers import make_layer
from kaptain_magics.images.assemble.push_layers import push_image
from kaptain_magics.images.bases import Base, Bases, image_platform
from kaptain_magics.images.build_context import FOLDER, PACKAGES, Context, Entry, training_context
from kaptain_magics.images.content_digest import FileDigests, image_digest
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.engine_build import build_image, dockerfile, entrypoint, environment, push_built
from kaptain_magics.images.image_contents import ImageContents, ImageInspector
from kaptain_magics.images.registry.reference import DOCKER_HUB, Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Manifest, Registries
from kaptain_magics.images.requirement_lines import is_local, local_files, shown
from kaptain_magics.images.runtime_packages import fetch_runtime_packages, versions_in
from kaptain_magics.images.tar_files import files_below
from kaptain_magics.images.wheels import install

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
    files: Sequence[str] = (),
    requirements: Sequence[str] = (),
    own: Sequence[str] = (),
) -> Recipe:
    """Return the recipe of a training image.

    Args:
        image: The image's name with tag.
        base: The base image's name.
        script: The script's file name.
        source: Its text.
        files: Files and folders that lie beside it.
        requirements: Lines of a pip requirements file.
        own: What the runtime in it needs, with the bounds that do.

    Raises:
        ImageError: A name is none, or a file is missing or holds a secret.
    """
    Reference.parse(image)
    Reference.parse(base)
    context = training_context(script, source, files, requirements)
    return Recipe(image, base, script, context, tuple(requirements), tuple(own))


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
        self._bases = Bases(self._engine, self._registries, self._engine_wanted)
        self._inspector = ImageInspector(cache)
        self._platform = image_platform(settings)

    def publish(self, recipe: Recipe, keep_in_engine: bool = False) -> Generator[str, None, Published]:
        """Make sure that the image is in its registry.

        Args:
            recipe: What it is made of.
            keep_in_engine: Whether the engine will do where there is no login for Docker Hub.

        Yields:
            Lines for the reader, empty ones while work goes on: the caller may stop there.

        Raises:
            CredentialsError: The registry does not let us.
            ImageError: The image cannot be made or pushed; nothing is left in the registry then.
        """
        for name in recipe.context.left_out:
            yield f"Leaving out {name}: it looks like credentials."
        target = Reference.parse(recipe.image)
        base = self._bases.find(recipe.base)
        checksum = self.checksum(recipe, base)
        local_only = keep_in_engine and target.registry == DOCKER_HUB and not self._registries.has_login(target)
        if local_only:
            if self._engine_label(recipe.image) == checksum:
                yield skipping(recipe.image)
                return Published(recipe.image, "", checksum, skipped=True)
        else:
            registry = self._registries.of(target)
            there = registry.found(target, self._platform)
            if there is not None and there[1].get(CHECKSUM) == checksum:
                yield skipping(recipe.image)
                return Published(recipe.image, there[0], checksum, skipped=True)
        if self._by_engine(base):
            yield from self._build(recipe, base, checksum)
            if local_only:
                yield f"Keeping {recipe.image} in the Docker engine: there is no login for docker.io to push it."
                return Published(recipe.image, "", checksum)
            yield f"Pushing {recipe.image}."
            yield from push_built(self._engine, recipe.image, self._access)
            digest = self._registries.of(target).digest_of(target) or ""
        else:
            digest = yield from self._assemble(recipe, base, checksum, target)
        yield f"Image build completed successfully. Image pushed: {recipe.image}"
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
    def _engine_wanted(self) -> bool:
        return self._settings.get("image_builder", "") != "none"

    def _by_engine(self, base: Base) -> bool:
        if not self._engine_wanted:
            return False
        if self._settings.get("image_builder") == "engine" or self._engine.answers():
            return True
        if base.in_engine:
            raise ImageError(f"the base image {base.name} is only in a Docker engine that is away", "start the engine")
        return False

    # ---- by an engine --------------------------------------------------------------------------------------------

    def _build(self, recipe: Recipe, base: Base, checksum: str) -> Generator[str, None, None]:
        yield "Building Docker image."
        yield from self._bases.bring(base, self._platform)
        packages: list[Entry] = []
        pip = False
        if recipe.requirements or recipe.own:
            try:
                packages = yield from self._install(self._look(base), recipe)
            except (ImageError, TargetError):  # no wheel, or no Python to ask: pip in the image has the last word
                if any(map(is_local, recipe.requirements)):
                    raise
                pip = bool(recipe.requirements)
        text = dockerfile(recipe.base, recipe.script, packages=bool(packages), pip=pip)
        parts = {"context": list(recipe.context.entries)}
        if packages:
            parts["packages"] = packages
        yield from build_image(self._engine, recipe.image, text, parts, {CHECKSUM: checksum}, self._platform)

    def _look(self, base: Base) -> ImageContents:
        if self._platform != self._engine.platform:
            raise ImageError(
                f"the Docker engine runs {self._engine.platform} and cannot look into an image for {self._platform}",
                "assemble the image without it: KAPTAIN_IMAGE_BUILDER=none",
            )
        return self._inspector.in_engine(self._engine, base.name, self._engine.image_id(base.name))

    # ---- without one ---------------------------------------------------------------------------------------------

    def _assemble(self, recipe: Recipe, base: Base, checksum: str, target: Reference) -> Generator[str, None, str]:
        yield "Assembling the image without a Docker engine."
        reference = Reference.parse(base.name)._replace(digest=base.digest)
        source = self._registries.of(reference)
        manifest = source.platform_manifest(reference, self._platform)
        layers = []
        try:
            if recipe.requirements or recipe.own:
                packages = yield from self._fetch(recipe, reference, manifest)
                if packages:
                    layers.append(make_layer(packages, f"{FOLDER}/{PACKAGES}", "requirements"))
            layers.append(make_layer(recipe.context.entries, FOLDER, "script, files and runtime"))
            settings = {
                "Labels": {CHECKSUM: checksum},
                "Env": environment(),
                "WorkingDir": FOLDER,
                "Entrypoint": entrypoint(recipe.script),
            }
            return (yield from push_image(self._registries, target, reference, manifest, layers, settings))
        finally:
            for layer in layers:
                layer.file.close()

    def _fetch(self, recipe: Recipe, base: Reference, manifest: Manifest) -> Generator[str, None, list[Entry]]:
        yield f"Looking into {base}."
        return (
            yield from self._install(self._inspector.in_registry(self._registries.of(base), base, manifest), recipe)
        )

    def _install(self, inside: ImageContents, recipe: Recipe) -> Generator[str, None, list[Entry]]:
        """Return the files of what the base image lacks, the person's requirements first."""
        found: list[Entry] = []
        installed = dict(inside.installed)
        missing = inside.missing(recipe.requirements)
        if missing:
            yield "Fetching requirements that the base image lacks: " + shown(missing)
            folder = yield from install(missing, inside.platform, self._cache, inside.installed)
            found = files_below(folder)
            installed |= versions_in(folder)
        own = msgspec.structs.replace(inside, installed=installed).missing(recipe.own)
        if own:
            try:
                folder = yield from fetch_runtime_packages(own, inside.platform, self._cache, installed)
            except ImageError as error:
                yield f"The image gets no {shown(own)}, which saving to S3 and serving need: {error.message}"
            else:
                there = {entry.path for entry in found}
                found += [entry for entry in files_below(folder) if entry.path not in there]
        return found


def skipping(image: str) -> str:
    """Return the line that says so, word for word as in the tutorial."""
    return (
        f"Skipping image build for the model - the image '{image}' with the same contents has already been published "
        "to the registry."
    )

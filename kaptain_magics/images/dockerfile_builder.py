"""Images from a Dockerfile of one's own: what ``ImageBuilderUtil`` of the SDK does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from kaptain_magics.errors import ImageError, TargetError
from kaptain_magics.images.bases import Bases, image_platform, named_images
from kaptain_magics.images.build_context import Entry, folder_entries
from kaptain_magics.images.content_digest import FileDigests, image_digest
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.engine_build import build_image, push_built
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.recipe import CHECKSUM, Published, skipping
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Registries


class ImageBuilder:
    """Builds an image from a Dockerfile and pushes it, unless one of the same content is in its registry.

    Args:
        image_name: The image's name with tag.
        dockerfile_content: The Dockerfile.
        files: Files and folders of the build context, relative to ``folder``; they keep their relative names.
        folder: Folder that the names are relative to; the working folder when absent.
        settings: As for ``publish.Publisher``.
        cache: Folder for things that can be made again.
    """

    def __init__(
        self,
        image_name: str,
        dockerfile_content: str,
        files: Sequence[str] = (),
        *,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
        cache: Path,
    ) -> None:
        self.image_name, self._text = image_name, dockerfile_content.rstrip() + "\n"
        self._reference = Reference.parse(image_name)
        self._files, self._folder = tuple(files), folder or Path.cwd()
        self._settings, self._cache = dict(settings or {}), cache

    def build_image(self, progress: Progress) -> Published:
        """Build and push.

        Args:
            progress: Gets what the builder says, line by line; empty lines while work goes on.

        Raises:
            CredentialsError: The registry does not let us.
            ImageError: The image cannot be built or pushed.
            TargetError: There is no Docker engine; a Dockerfile needs one.
        """
        engine, access = Engine(self._settings), Access.of(self._settings)
        registries, platform = Registries(access), image_platform(self._settings)
        finder = Bases(engine, registries)
        bases = [finder.find(name) for name in named_images(self._text)]
        entries: list[Entry] = []
        for name in self._files:
            entries += folder_entries(self._folder / name, _below(name))
        checksum = image_digest(
            entries,
            FileDigests.under(self._cache),
            base=" ".join(base.digest for base in bases),
            settings={"Dockerfile": self._text, "platform": platform},
        )
        registry = registries.of(self._reference)
        digest, labels = registry.digest_and_labels(self._reference, platform) or ("", {})
        if labels.get(CHECKSUM) == checksum:
            progress(skipping(self.image_name))
            return Published(self.image_name, digest, checksum, skipped=True)
        if not engine.answers():
            raise TargetError(
                "no Docker engine answers, and a Dockerfile needs one",
                "start one, or describe the image with base image, files and requirements instead",
            )
        progress("Building Docker image.")
        for base in bases:
            finder.pull(base, platform, progress)
        build_image(engine, self.image_name, self._text, {"": entries}, {CHECKSUM: checksum}, progress, platform)
        push_built(engine, self.image_name, access, progress)
        digest = registry.digest_of(self._reference) or ""
        if not digest:
            raise ImageError(f"{self.image_name} was pushed and is not in its registry", "push it again")
        progress(f"Image build completed successfully. Image pushed: {self.image_name}")
        return Published(self.image_name, digest, checksum)


def _below(name: str) -> str:
    """Return the path that a file has in the context: below it, wherever it is taken from."""
    path = PurePath(name)
    return "/".join(part for part in path.parts if part not in (path.anchor, ".."))

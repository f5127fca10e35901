"""Files of the packages that a base image lacks: the person's requirements, and what the runtime needs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kaptain_magics.errors import ImageError
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.image_contents import ImageContents
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.recipe import Recipe
from kaptain_magics.images.requirement_lines import shown
from kaptain_magics.images.runtime_packages import fetch_runtime_packages, versions_in
from kaptain_magics.images.tar_files import files_below
from kaptain_magics.images.wheels import install


def lacking_packages(contents: ImageContents, recipe: Recipe, cache: Path, progress: Progress) -> list[Entry]:
    """Return the files of what a base image lacks, the person's requirements first.

    Args:
        contents: What is in the base image.
        recipe: The image that is made of it.
        cache: Folder for things that can be made again.
        progress: Gets lines for the reader.

    Raises:
        ImageError: A requirement cannot be installed. What the runtime lacks is only said: a script may do without it.
    """
    entries: list[Entry] = []
    installed = dict(contents.installed)
    missing = contents.missing(recipe.requirements)
    if missing:
        progress(f"Fetching requirements that the base image lacks: {shown(missing)}")
        folder = install(missing, contents.platform, cache, progress, contents.installed)
        entries = files_below(folder)
        installed |= versions_in(folder)
    own = msgspec.structs.replace(contents, installed=installed).missing(recipe.own)
    if own:
        try:
            folder = fetch_runtime_packages(own, contents.platform, cache, progress, installed)
        except ImageError as error:
            progress(f"{shown(own)} (for saving to S3 and serving) cannot be added to the image: {error.message}")
        else:
            present = {entry.path for entry in entries}
            entries += [entry for entry in files_below(folder) if entry.path not in present]
    return entries

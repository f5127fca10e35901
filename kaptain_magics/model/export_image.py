"""The image of an exported model: its packages are fetched here, so that the engine needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.errors import ImageError, TargetError
from kaptain_magics.images.bases import Bases, image_platform
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.engine_build import build_image
from kaptain_magics.images.image_contents import ImageInspector
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Registries
from kaptain_magics.images.tar_files import files_below
from kaptain_magics.images.wheels import install

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

_PACKAGES = "packages"
_DOCKERFILE = """FROM {base}
WORKDIR /model
ENV PYTHONPATH=/model/{packages}
COPY . ./
USER 1000
EXPOSE 8080
ENTRYPOINT ["python", "serve.py", "--host", "0.0.0.0", "--port", "8080"]
"""


def build_export(context: Context, exported: Path, image: str, progress: Progress) -> str:
    """Build the image of an exported folder with the Docker engine, on the base image of the settings.

    Args:
        context: The settings.
        exported: The folder.
        image: The image's name.
        progress: Gets lines for the reader.

    Returns:
        The image's id.

    Raises:
        TargetError: No engine answers.
        ImageError: The base image cannot be used, a package has no wheel for it, or a step fails.
    """
    settings, cache = context.settings.as_texts(), Path(context.settings.cache)
    engine = Engine(settings)
    if not engine.answers():
        raise TargetError("no Docker engine answers, and an image needs one", "start one, or export a folder instead")
    platform = image_platform(settings)
    first = (exported / "Dockerfile").read_text("utf-8").splitlines()[0].removeprefix("FROM ")
    name = context.settings.base_image or first
    bases = Bases(engine, Registries(Access.of(settings)))
    bases.pull(bases.find(name), platform, progress)
    with engine.translate_errors(name):
        identity = str(engine.client.images.get(name).id)
    contents = ImageInspector(cache).in_engine(engine, name, identity)
    series = first.removeprefix("python:").removesuffix("-slim")
    if contents.python != series:
        raise ImageError(
            f"{name} has Python {contents.python}, and the model was saved with {series}",
            "name a base image with the same Python: the setting base_image",
        )
    files = sorted(path for path in exported.rglob("*") if path.is_file() and path.name != "Dockerfile")
    entries = [Entry(path.relative_to(exported).as_posix(), path) for path in files]
    missing = contents.missing((exported / "requirements.txt").read_text("utf-8").splitlines())
    if missing:
        folder = install(missing, contents.platform, cache, progress, contents.installed)
        entries += [entry._replace(path=f"{_PACKAGES}/{entry.path}") for entry in files_below(folder)]
    text = _DOCKERFILE.format(base=name, packages=_PACKAGES)
    return build_image(engine, image, text, {"": entries}, {}, progress, platform)

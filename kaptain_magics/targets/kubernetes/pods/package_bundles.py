"""What pods of ours need beside Python and the framework: put into the object store, once for each kind of Python.

A pod takes from there only what its image lacks; so an image needs no package of ours, and a pod no package index.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.errors import ImageError, KaptainError
from kaptain_magics.files import write_whole
from kaptain_magics.images.bases import image_platform
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.runtime_packages import bundle, fetch_runtime_packages, platform_name, this_platform
from kaptain_magics.images.wheels import Platform
from kaptain_magics.runtime.own_requirements import OPTIONAL, SERVING_PACKAGES, STORAGE_PACKAGES

if TYPE_CHECKING:
    from kaptain_magics.storage import ObjectStore

LISTED = "packages.json"
_PYTHONS = ("3.13", "3.12", "3.11", "3.14", "3.10")  # of images that nothing is known of
_LARGE = ("numpy",)  # in every image with a framework: only brought where its Python is known
_SHORT = 3.0  # seconds for a registry that is only asked for help
_AGAIN = 3600.0  # seconds until an index or a registry that did not help is asked again

_REFRESH = 86400.0  # seconds after which a bundle that is used again is written again: its age says its last use

Bundles = dict[str, dict[str, list[str]]]


def packages_for(serving: bool) -> dict[str, list[str]]:
    """Return what the pods of an endpoint (or of a job) need, by the name of its bundle."""
    sets = {"storage": list(STORAGE_PACKAGES)}
    if serving:
        sets["serving"] = [line for line in SERVING_PACKAGES if line not in _LARGE]
        sets |= {name: [line for line in SERVING_PACKAGES if line == name] for name in _LARGE}
    return sets


class Packages:
    """Makes bundles of packages and keeps them in the object store.

    Args:
        cache: Folder for things that can be made again.
        settings: The target's settings.
        store: Opens the object store of a URI.
    """

    def __init__(self, cache: Path, settings: Mapping[str, str], store: Callable[[str], ObjectStore]) -> None:
        self._cache, self._settings, self._store = cache, settings, store
        self._platforms: dict[str, tuple[list[Platform], bool]] = {}
        self._stored: dict[tuple[str, str, bool], Bundles] = {}

    def listed(self, image: str, uri: str, model_id: str, serving: bool = False) -> bytes:
        """Return the list that travels with the work; before ``prepare`` it names no bundles.

        Args:
            image: The pods' image.
            uri: Where the model is, or goes to.
            model_id: The model.
            serving: Whether the server is to run there.
        """
        requirements = packages_for(serving) if uri.startswith("s3://") else {}
        bundles = self.bundles(image, uri, model_id, serving)
        return json.dumps({"wanted": requirements, "bundles": bundles, "optional": OPTIONAL}).encode()

    def bundles(self, image: str, uri: str, model_id: str, serving: bool = False) -> Bundles:
        """Return the bundles that ``prepare`` has put into the object store for such pods."""
        return self._stored.get((image, folder_of(uri, model_id), serving), {})

    def ready(self, image: str, uri: str, model_id: str, serving: bool = False) -> bool:
        """Whether ``prepare`` has nothing to do that takes long."""
        if not uri.startswith("s3://") or (image, folder_of(uri, model_id), serving) in self._stored:
            return True
        own_platform = this_platform()
        return own_platform is not None and all(
            platform_name(p) == platform_name(own_platform) for p in self._of(image)[0]
        )

    def prepare(self, image: str, uri: str, model_id: str, progress: Progress, serving: bool = False) -> None:
        """Make sure that the object store has what the pods of an image may lack.

        Args:
            image: The pods' image.
            uri: Where the model is, or goes to.
            model_id: The model.
            progress: Gets lines for the reader, empty ones while pip works.
            serving: Whether the server is to run there.

        Raises:
            KaptainError: The object store refuses it.
        """
        folder = folder_of(uri, model_id)
        if not uri.startswith("s3://") or (image, folder, serving) in self._stored:
            return
        platforms, determined = self._of(image)
        bundles: Bundles = {}
        own_platform = this_platform()
        announced = False
        store = self._store(folder)
        stored = {f"{folder}/{entry.path}": entry.modified for entry in store.list(folder)}
        for platform_ in platforms:
            own = own_platform is not None and platform_name(own_platform) == platform_name(platform_)
            if not own and not determined and self._noted("no-index"):
                continue
            if not own and not announced:
                announced = True
                progress(f"Fetching what Kaptain's runtime needs for the Python of image {image}.")
            for name, lines in packages_for(serving).items():
                if name in _LARGE and not determined and not own:
                    continue
                try:
                    packages = fetch_runtime_packages(lines, platform_, self._cache, progress)
                except ImageError as error:
                    if determined:
                        progress(f"What the runtime needs is left to the image: {error.message}")
                    elif not own:
                        self._note("no-index")
                    break
                packed = bundle(packages, self._cache)
                bundle_uri = f"{folder}/{name}-{platform_name(platform_)}-{packed.digest[:16]}.tar.gz"
                if stored.get(bundle_uri, 0.0) < time.time() - _REFRESH:
                    store.write(bundle_uri, packed.path.read_bytes())
                bundles.setdefault(name, {})[platform_name(platform_)] = [bundle_uri, packed.digest]
        self._stored[image, folder, serving] = bundles

    def _of(self, image: str) -> tuple[list[Platform], bool]:
        """Return the platforms that an image may have, and whether it is known."""
        if image not in self._platforms:
            determined = self._determine_platform(image)
            self._platforms[image] = ([determined], True) if determined is not None else (self._any(), False)
        return self._platforms[image]

    def _determine_platform(self, image: str) -> Platform | None:
        from kaptain_magics.images.engine import Engine
        from kaptain_magics.images.image_contents import ImageInspector
        from kaptain_magics.images.registry.reference import Reference
        from kaptain_magics.images.registry.registry_access import Access
        from kaptain_magics.images.registry.registry_client import Registries

        with suppress(KaptainError):
            engine = Engine(self._settings)
            local = engine.image(image) if engine.answers() else None
            if local is not None:
                return ImageInspector(self._cache).in_engine(engine, image, str(local.id)).platform
        unknown = f"unknown-{hashlib.sha256(image.encode()).hexdigest()[:16]}"
        if self._noted(unknown):
            return None
        with suppress(KaptainError):
            reference = Reference.parse(image)
            registry = Registries(Access.of(self._settings)).of(reference)
            if registry.digest_of(reference, retry_seconds=_SHORT):
                manifest = registry.platform_manifest(reference, image_platform(self._settings))
                config = registry.config(reference, manifest)
                env = dict(line.partition("=")[::2] for line in config.get("config", {}).get("Env") or ())
                if "PYTHON_VERSION" in env:
                    version = ".".join(env["PYTHON_VERSION"].split(".")[:2])
                    return Platform.of(version, config.get("architecture", "amd64"), "alpine" in image)
        self._note(unknown)
        return None

    def _any(self) -> list[Platform]:
        """Return the platforms of images of today, this process's first."""
        architecture = image_platform(self._settings).split("/")[1]
        own_platform = this_platform()
        others = [Platform.of(version, architecture) for version in _PYTHONS]
        if own_platform is None or own_platform.machine != others[0].machine:
            return others
        return [own_platform, *(other for other in others if other.python != own_platform.python)]

    # What is away costs every process of ours seconds each time, so it is noted for a while.

    def _noted(self, what: str) -> bool:
        with suppress(OSError):
            return time.time() - (self._cache / "bundles" / what).stat().st_mtime < _AGAIN
        return False

    def _note(self, what: str) -> None:
        with suppress(KaptainError, OSError):
            (self._cache / "bundles").mkdir(parents=True, exist_ok=True)
            write_whole(self._cache / "bundles" / what, b"")


def folder_of(uri: str, model_id: str) -> str:
    """Return the folder of the object store that packages are kept in, beside all models."""
    base, separator, _ = uri.partition(f"/{model_id}/")
    return folder_below(base if separator else uri.rpartition("/")[0])


def folder_below(models_uri: str) -> str:
    """Return the folder that packages are kept in beside the models of a store."""
    return f"{models_uri.rstrip('/')}/.kaptain/packages"

"""Images of jobs: built and pushed once, and the credentials that pods pull them with."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kaptain_magics.core.specs import ImageSpec, JobSpec
from kaptain_magics.errors import TargetError
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.registry.reference import DOCKER_HUB, DOCKER_HUB_LOGIN, Reference, with_tag
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.runtime.own_requirements import OWN_PACKAGES

if TYPE_CHECKING:
    from kaptain_magics.images.recipe import Recipe


class Images:
    """Names, builds and unlocks the images of jobs.

    Args:
        cache: Folder for things that can be made again.
        settings: The target's settings.
    """

    def __init__(self, cache: Path, settings: Mapping[str, str]) -> None:
        self._cache, self._settings = cache, settings
        self._published: dict[bytes, str] = {}

    def base(self, image: ImageSpec) -> str:
        """Return the image that has Python and the framework.

        Raises:
            TargetError: None is named.
        """
        name = image.base_image or self._settings.get("base_image", "")
        if not name:
            raise TargetError(
                "no image is named to run the work in",
                "name one that has Python and your framework: %config KaptainMagics.base_image = 'python:3.12'",
            )
        return name

    def of(self, job: JobSpec) -> str:
        """Return the image that a job runs in: the built one, pinned to its content once that is known."""
        if not job.image.image_name:
            return self.base(job.image)
        return self._published.get(_key(job)) or self._tagged(job)

    def ready(self, job: JobSpec) -> bool:
        """Whether nothing has to be built before the job is created."""
        return not job.image.image_name or _key(job) in self._published

    def publish(self, job: JobSpec, progress: Progress) -> None:
        """Build and push a job's image, unless one with the same content is in the registry.

        Args:
            job: The job.
            progress: Gets lines for the reader, empty ones while work goes on.

        Raises:
            ImageError: It cannot be built or pushed.
            CredentialsError: The registry does not let us.
        """
        from kaptain_magics.images.publish import Publisher

        published = Publisher(self._cache, self._settings).publish(self._recipe(job), progress)
        self._published[_key(job)] = published.pinned

    def _recipe(self, job: JobSpec) -> Recipe:
        from kaptain_magics.images.recipe import recipe

        base = self.base(job.image)
        parts = job.script_path, job.script.source, job.placed, job.requirements
        return recipe(self._tagged(job), base, *parts, own=OWN_PACKAGES)

    def _tagged(self, job: JobSpec) -> str:
        return with_tag(job.image.image_name, job.model_id, job.framework.value)

    def credentials(self, image: str) -> str:
        """Return a ``config.json`` with the login of an image's registry; empty where there is none.

        Raises:
            ImageError: The image's name is none.
            CredentialsError: Docker's configuration cannot be read.
        """
        registry = Reference.parse(image).registry
        login = Access.of(self._settings).logins.of(registry)
        if login is None:
            return ""
        entry = {"identitytoken": login.identity_token}
        if not login.identity_token:
            entry = {"auth": base64.b64encode(f"{login.username}:{login.secret}".encode()).decode()}
        return json.dumps({"auths": {DOCKER_HUB_LOGIN if registry == DOCKER_HUB else registry: entry}})


def _key(job: JobSpec) -> bytes:
    """Return what an image depends on, as far as the job says it."""
    return msgspec.json.encode([job.image, job.script, job.placed, job.requirements, job.model_id, job.framework])

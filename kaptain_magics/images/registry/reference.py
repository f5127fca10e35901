"""Names of images: ``registry/repository:tag@digest``, shortened as Docker does."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from kaptain_magics.errors import ImageError

DOCKER_HUB = "registry-1.docker.io"
DOCKER_HUB_LOGIN = "https://index.docker.io/v1/"  # under which Docker and clusters keep its login
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_LONGEST_TAG = 128  # characters, by the OCI distribution specification
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Reference(NamedTuple):
    """An image in a registry.

    Attributes:
        registry: ``host[:port]`` that is asked.
        repository: The repository there.
        tag: The tag; ``latest`` when neither tag nor digest was named.
        digest: The manifest's digest, when it was named.
    """

    registry: str
    repository: str
    tag: str = "latest"
    digest: str = ""

    @classmethod
    def parse(cls, name: str) -> Reference:
        """Read an image's name.

        Raises:
            ImageError: It is not a valid name.
        """
        rest, _, digest = name.strip().partition("@")
        head, slash, tail = rest.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost"):
            registry, rest = head, tail
        else:
            registry = ""
        repository, colon, tag = rest.partition(":")
        if registry in ("", "docker.io", "index.docker.io", DOCKER_HUB):
            registry = DOCKER_HUB
            repository = repository if "/" in repository else f"library/{repository}"
        if (
            not _REPOSITORY.fullmatch(repository)
            or (colon and not _TAG.fullmatch(tag))
            or ("@" in name and not _DIGEST.fullmatch(digest))
        ):
            hint = "write [registry[:port]/]repository[:tag] in lower case, such as registry.example.com/team/mnist:1"
            raise ImageError(f"{name!r} is not a valid image name", hint)
        return cls(registry, repository, tag or ("" if digest else "latest"), digest)

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        host = "docker.io" if self.registry == DOCKER_HUB else self.registry
        return (
            f"{host}/{self.repository}"
            + (f":{self.tag}" if self.tag else "")
            + (f"@{self.digest}" if self.digest else "")
        )


def with_tag(image_name: str, *words: str) -> str:
    """Return an image's name with a tag: its own, or one made of words as the SDK does (id, framework, version)."""
    if "@" in image_name or ":" in image_name.rpartition("/")[2]:
        return image_name
    tag = re.sub(r"[^\w.-]+", "-", "-".join(filter(None, words)), flags=re.ASCII).lstrip(".-")
    if len(tag) > _LONGEST_TAG:
        tag = f"{tag[: _LONGEST_TAG - 9]}-{hashlib.sha256(tag.encode()).hexdigest()[:8]}"
    return f"{image_name}:{tag or 'latest'}"

"""The connection to a Docker engine, and its errors in one sentence each."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaptain_magics.errors import TargetError, WorkloadError
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.registry.docker_logins import Logins
from kaptain_magics.images.registry.reference import Reference

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

_PULL_HINT = "check the name, log in to its registry (docker login), or choose another one with --base-image"
_TIMEOUT = 60.0  # seconds that the engine may take for one answer
_SENTENCES = (  # what the engine says, what it means, what to do
    (r"no space left on device", "the Docker engine's disk is full", "free space: docker system prune"),
    (
        r"could not select device driver.*gpu",
        "this Docker engine gives no GPUs to containers",
        "install the NVIDIA Container Toolkit on the engine's machine, or leave --gpus out",
    ),
    (
        r"Range of CPUs is from [\d.]+ to ([\d.]+)",
        "the Docker engine's machine has only {0} CPUs",
        "ask for fewer with --cpu",
    ),
    (r"Minimum memory limit allowed is (\w+)", "a container needs at least {0} of memory", "raise --memory"),
    (
        r"exec: \"?(python\w*)\"?.*(?:not found|no such file)",
        "the image has no `{0}`",
        "use an image with Python in it, such as python:3.12-slim (--base-image)",
    ),
    (
        r"(?:port is already allocated|address already in use)",
        "the port is in use by another program",
        "name another one with --port, or none to get a free one",
    ),
    (
        r"(?:exec format error|does not match the (?:detected host|specified) platform)",
        "the image is made for another kind of processor than the Docker engine's",
        "use an image for this platform, or name the platform of built ones with KAPTAIN_IMAGE_PLATFORM",
    ),
    (
        r"permission denied",
        "this user may not use the Docker engine",
        "add the user to the group `docker` and log in again",
    ),
)


class ContainerGoneError(WorkloadError):
    """A container is not there any more."""


class Engine:
    """A Docker engine.

    Args:
        settings: ``docker_host`` names its address; empty means ``DOCKER_HOST``, then the current Docker context.
            ``docker_config`` names Docker's configuration.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        named = settings.get("docker_host") or os.environ.get("DOCKER_HOST") or _current_context_address()
        self.address = named or ("" if sys.platform == "win32" else "unix:///var/run/docker.sock")
        self._version = "auto"
        self._logins = Logins.under(settings)

    @functools.cached_property
    def client(self) -> DockerClient:
        """The connection that most calls share.

        Raises:
            TargetError: The engine does not answer.
        """
        client = self.connect()
        weakref.finalize(self, client.close)
        return client

    def connect(self, timeout: float = _TIMEOUT) -> DockerClient:
        """Open another connection, for a thread of its own."""
        if self._socket_missing:
            raise self._unreachable()
        import docker
        from docker.utils import kwargs_from_env

        options: dict[str, Any] = {**kwargs_from_env(), "version": self._version, "timeout": timeout}
        if self.address:
            options["base_url"] = self.address
        if self.address.startswith("ssh://"):
            options["use_ssh_client"] = True
        with self.translate_errors():
            client = docker.DockerClient(**options)
            self._version = client.api.api_version
        return client

    def answers(self) -> bool:
        """Whether an engine is there; nothing is imported or sent where its socket is missing."""
        try:
            return bool(self.client)
        except TargetError:
            return False

    @property
    def on_this_machine(self) -> bool:
        """Whether containers can share this machine's network: a socket here, and no virtual machine around it."""
        if not self.address.startswith(("unix://", "npipe://", "http+unix://")):
            return False
        return sys.platform == "linux" and "Desktop" not in self.info.get("OperatingSystem", "")

    @property
    def platform(self) -> str:
        """The platform of its containers, such as ``linux/amd64``."""
        return docker_platform(str(self.info.get("Architecture", "x86_64")))

    # ---- images --------------------------------------------------------------------------------------------------

    def image(self, name: str) -> Image | None:
        """Return an image, ``None`` where the engine does not have it."""
        from docker import errors

        client = self.client
        with self.translate_errors(name):
            try:
                return client.images.get(name)
            except errors.ImageNotFound:
                return None

    def image_id(self, name: str) -> str:
        """Return an image's id.

        Raises:
            WorkloadError: The engine does not have it.
        """
        image = self.image(name)
        if image is None:
            raise _image_missing(name)
        return str(image.id)

    def image_labels(self, name: str) -> dict[str, str]:
        """Return an image's labels, none where the engine does not have it."""
        image = self.image(name)
        return dict(image.labels) if image is not None else {}

    def image_digest(self, name: str, repository: str) -> str:
        """Return what an image is: the digest that its registry knows, else its id; empty where it is not there."""
        image = self.image(name)
        if image is None:
            return ""
        for repo_digest in image.attrs.get("RepoDigests") or ():
            known_as, _, digest = str(repo_digest).partition("@")
            if known_as == repository or known_as.endswith(f"/{repository}") or f"library/{known_as}" == repository:
                return digest
        return str(image.id)

    def pull(self, name: str, progress: Progress) -> None:
        """Pull an image.

        Args:
            name: The image.
            progress: Called with empty lines while it comes.

        Raises:
            WorkloadError: It cannot be had.
        """
        from docker import errors
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(name)
        client = self.client
        with self.translate_errors(name):
            try:
                login = self._logins.of(Reference.parse(name).registry)
                options: Any = {"auth_config": login.for_engine} if login is not None else {}
                for line in client.api.pull(repository, tag or "latest", stream=True, decode=True, **options):
                    if "error" in line:
                        raise WorkloadError(f"image {name} cannot be pulled: {line['error']}", _PULL_HINT)
                    progress("")
            except errors.APIError as error:
                reason = " ".join(str(error.explanation or error).split())
                raise WorkloadError(
                    f"there is no image {name} here and it cannot be pulled: {reason}", _PULL_HINT
                ) from error

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """What the engine says of itself.

        Raises:
            TargetError: The engine does not answer.
        """
        client = self.client
        with self.translate_errors():
            info: dict[str, Any] = client.info()
        return info

    @contextmanager
    def translate_errors(self, image: str = "") -> Iterator[None]:
        """Turn the engine's errors in the block into ours.

        Args:
            image: The image in question, for the message.
        """
        import requests
        from docker import errors

        try:
            yield
        except errors.ImageNotFound as error:
            raise _image_missing(image) from error
        except errors.NotFound as error:
            if "image" in str(error.explanation).lower():
                raise _image_missing(image) from error
            raise ContainerGoneError("the container was removed", "run it again") from error
        except errors.APIError as error:
            reason = " ".join(str(error.explanation or error).split())
            raise explain_engine_error(reason) from error
        except (errors.DockerException, requests.RequestException, OSError) as error:
            if "permission denied" in str(error).lower():
                raise explain_engine_error("permission denied") from error
            raise self._unreachable() from error

    @property
    def _socket_missing(self) -> bool:
        return self.address.startswith("unix://") and not Path(self.address.removeprefix("unix://")).exists()

    def _unreachable(self) -> TargetError:
        return TargetError(
            f"the Docker engine at {self.address or 'its default address'} does not answer",
            "start it (systemctl start docker, or Docker Desktop), or name another one with DOCKER_HOST",
        )


def docker_platform(machine: str) -> str:
    """Return the platform of containers on a processor that its system calls ``machine``."""
    return "linux/" + {"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}.get(machine.lower(), machine.lower())


def explain_engine_error(reason: str) -> WorkloadError:
    """Return the error that stands for what an engine said."""
    for pattern, meaning, hint in _SENTENCES:
        match = re.search(pattern, reason, re.IGNORECASE)
        if match is not None:
            return WorkloadError(meaning.format(*match.groups()), hint)
    return WorkloadError(f"the Docker engine refused: {reason}")


def _image_missing(image: str) -> WorkloadError:
    return WorkloadError(
        f"there is no image {image}" if image else "the image is not there",
        "check the name; `docker images` lists what the engine has",
    )


def _current_context_address() -> str:
    """Return the address in the current context of the Docker command, empty when it is the usual one."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        name = os.environ.get("DOCKER_CONTEXT") or json.loads((folder / "config.json").read_text())["currentContext"]
        if name == "default":
            return ""
        digest = hashlib.sha256(name.encode()).hexdigest()
        context = json.loads((folder / "contexts" / "meta" / digest / "meta.json").read_text())
        return str(context["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # the files are the Docker command's own
        return ""

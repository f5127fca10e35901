"""The connection to a Docker engine, and its errors in one sentence each."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kaptain_magics.errors import TargetError, WorkloadError

if TYPE_CHECKING:
    from docker import DockerClient

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
        "use an image for this platform",
    ),
    (
        r"permission denied",
        "this user may not use the Docker engine",
        "add the user to the group `docker` and log in again",
    ),
)


class GoneError(WorkloadError):
    """A container is not there any more."""


class Engine:
    """A Docker engine.

    Args:
        settings: ``docker_host`` names its address; empty means ``DOCKER_HOST``, then the current Docker context.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.address = settings.get("docker_host") or os.environ.get("DOCKER_HOST") or _of_context()
        self._version = "auto"

    @functools.cached_property
    def client(self) -> DockerClient:
        """The connection that most calls share.

        Raises:
            TargetError: The engine does not answer.
        """
        return self.connect()

    def connect(self, timeout: float = _TIMEOUT) -> DockerClient:
        """Open another connection, for a thread of its own."""
        import docker
        from docker.utils import kwargs_from_env

        options: dict[str, Any] = {**kwargs_from_env(), "version": self._version, "timeout": timeout}
        if self.address:
            options["base_url"] = self.address
        if self.address.startswith("ssh://"):
            options["use_ssh_client"] = True
        with self.told():
            client = docker.DockerClient(**options)
            self._version = client.api.api_version
        return client

    @property
    def on_this_machine(self) -> bool:
        """Whether containers can share this machine's network: a socket here, and no virtual machine around it."""
        if not self.address.startswith(("unix://", "npipe://", "http+unix://")):
            return False
        return sys.platform == "linux" and "Desktop" not in self.info.get("OperatingSystem", "")

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """What the engine says of itself.

        Raises:
            TargetError: The engine does not answer.
        """
        client = self.client
        with self.told():
            info: dict[str, Any] = client.info()
        return info

    @contextmanager
    def told(self, image: str = "") -> Iterator[None]:
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
            raise GoneError("the container was removed", "run it again") from error
        except errors.APIError as error:
            said = " ".join(str(error.explanation or error).split())
            raise sentence(said) from error
        except (errors.DockerException, requests.RequestException, OSError) as error:
            if "permission denied" in str(error).lower():
                raise sentence("permission denied") from error
            where = self.address or "its usual address"
            raise TargetError(
                f"the Docker engine at {where} does not answer",
                "start it (systemctl start docker, or Docker Desktop), or name another one with DOCKER_HOST",
            ) from error


def sentence(said: str) -> WorkloadError:
    """Return the error that stands for what an engine said."""
    for pattern, meaning, hint in _SENTENCES:
        match = re.search(pattern, said, re.IGNORECASE)
        if match is not None:
            return WorkloadError(meaning.format(*match.groups()), hint)
    return WorkloadError(f"the Docker engine refused: {said}")


def _image_missing(image: str) -> WorkloadError:
    return WorkloadError(
        f"there is no image {image}" if image else "the image is not there",
        "check the name; `docker images` lists what the engine has",
    )


def _of_context() -> str:
    """Return the address in the current context of the Docker command, empty when there is none."""
    from docker.context import ContextAPI

    try:
        context = ContextAPI.get_current_context()
        return str(context.Host or "") if context is not None else ""
    except Exception:  # the context's files are the Docker command's own, in whatever state
        return ""

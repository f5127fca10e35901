"""Images by a Docker engine: BuildKit where its command is there, else the engine's own builder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, cast

from kaptain_magics.core.secrets import without_passwords
from kaptain_magics.errors import CredentialsError, ImageError
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.engine import Engine, explain_engine_error
from kaptain_magics.images.progress import Progress, run_process
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.tar_files import write_tar

_IN_MEMORY = 32 << 20  # bytes of a build context that are kept in memory
_TICK = 0.2  # seconds between two calls of progress while a registry is waited for
_UNREACHABLE = re.compile(
    r"refused|reset|no such host|timeout|timed out|EOF|unavailable|broken pipe|unreachable|bad gateway", re.I
)


def build_image(
    engine: Engine,
    image: str,
    text: str,
    parts: Mapping[str, Iterable[Entry]],
    labels: Mapping[str, str],
    progress: Progress,
    platform: str = "",
) -> str:
    """Build an image in the engine.

    Args:
        engine: The engine.
        image: Name of the image.
        text: The Dockerfile; labels are set at its end.
        parts: The context's files by folder; the empty folder is the context itself.
        labels: The image's labels.
        progress: Gets what the builder says, line by line.
        platform: ``os/architecture``; empty for the engine's own.

    Returns:
        The image's id.

    Raises:
        ImageError: A step fails.
        TargetError: The engine does not answer.
    """
    text += "".join(f"LABEL {name}={json.dumps(value)}\n" for name, value in labels.items())
    with cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)) as context:
        _write_context(context, text, parts)
        context.seek(0)
        if has_buildkit():
            _buildx(engine, image, context, progress, platform)
        else:
            _classic(engine, image, context, progress, platform)
    with engine.translate_errors(image):
        return str(engine.client.images.get(image).id)


def _write_context(sink: IO[bytes], text: str, parts: Mapping[str, Iterable[Entry]]) -> None:
    entries = [Entry("Dockerfile", text.encode())]
    for folder, files in parts.items():
        entries += [entry._replace(path=f"{folder}/{entry.path}".lstrip("/")) for entry in files]
    try:
        write_tar(sink, entries, "")
    except OSError as error:
        raise ImageError(
            f"the build context cannot be written: {error.strerror or error}", "free disk space"
        ) from error


def has_buildkit() -> bool:
    """Whether the Docker command with BuildKit is there."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    done = subprocess.run([docker, "buildx", "version"], capture_output=True, timeout=20, check=False)
    return done.returncode == 0


def _buildx(engine: Engine, image: str, context: IO[bytes], progress: Progress, platform: str) -> None:
    command = ["docker", "buildx", "build", "--progress=plain", "--load", "--tag", image]
    command += [*(["--platform", platform] if platform else []), "-"]
    env = {**os.environ, **({"DOCKER_HOST": engine.address} if engine.address else {})}
    with tempfile.TemporaryFile() as plain:  # a process needs a real file to read from
        shutil.copyfileobj(context, plain)
        plain.seek(0)
        code, output = run_process(command, progress, stdin=plain, env=env)
    if code:
        raise _failed([re.sub(r"^#\d+ (?:[\d.]+ )?", "", line) for line in output.splitlines()])
    for line in output.splitlines():
        progress(without_passwords(re.sub(r"^#\d+ ", "", line)))


def _classic(engine: Engine, image: str, context: IO[bytes], progress: Progress, platform: str) -> None:
    output: list[str] = []
    client = engine.client
    with engine.translate_errors(image):
        steps = client.api.build(
            fileobj=context,
            custom_context=True,
            tag=image,
            rm=True,
            forcerm=True,
            decode=True,
            platform=platform or None,
        )
        for step in steps:
            if "error" in step:
                raise _failed([*output, str(step["error"])])
            for line in str(step.get("stream", "")).splitlines():
                if line.strip():
                    output.append(line)
                    progress(without_passwords(line))
            progress("")


def _failed(output: Sequence[str]) -> ImageError:
    lines = [line.strip() for line in output if line.strip()]
    error_lines = [line for line in lines if re.match(r"(?:ERROR|error)[: ]", line)]
    reason = without_passwords((error_lines or lines or ["the builder gave no output"])[-1])
    explained = explain_engine_error(reason)
    if explained.hint:
        return ImageError(explained.message, explained.hint)
    return ImageError(
        f"the image cannot be built: {reason}", "see the lines above; `docker system df` shows free space"
    )


def push_built(engine: Engine, image: str, access: Access, progress: Progress) -> None:
    """Push an image from the engine to its registry; one that is away for a while is waited for.

    Raises:
        CredentialsError: The registry asks for another login.
        ImageError: The registry does not take it.
    """
    reference = Reference.parse(image)
    login = access.logins.of(reference.registry)
    # pushing -> pushed | refused | waiting (the registry cannot be reached) -> pushing, for `retry_seconds`
    until, pause = time.monotonic() + access.retry_seconds, 1.0
    while True:
        failure = _push(engine, image, login.for_engine if login is not None else {}, progress)
        if not failure:
            return
        if not _UNREACHABLE.search(failure) or time.monotonic() + pause > until:
            raise _refused(failure, reference)
        again = time.monotonic() + pause
        while time.monotonic() < again:
            time.sleep(_TICK)
            progress("")
        pause *= 2


def _push(engine: Engine, image: str, login: Mapping[str, str], progress: Progress) -> str:
    """Push once; returns the engine's error, empty when it is done."""
    client = engine.client
    with engine.translate_errors(image):
        lines: Any = client.api.push(image, stream=True, decode=True, auth_config=dict(login))
        for line in lines:
            if "error" in line:
                return str(line["error"])
            progress("")
    return ""


def _refused(failure: str, image: Reference) -> ImageError | CredentialsError:
    if re.search(r"unauthorized|denied|authentication|no basic auth", failure, re.IGNORECASE):
        return CredentialsError(
            f"the registry {image.registry} does not let this login write {image.repository}",
            f"check the repository's name and your rights, or run docker login {image.registry}",
        )
    if re.search(r"x509|HTTPS client", failure):
        return ImageError(
            f"the Docker engine does not trust the registry {image.registry}: {failure}",
            f"put its authority's certificate into /etc/docker/certs.d/{image.registry}/ca.crt at the engine, or "
            "push without the engine: KAPTAIN_IMAGE_BUILDER=none",
        )
    return ImageError(f"the image cannot be pushed: {failure}", "check the registry's name and the network")

"""Images by a Docker engine: BuildKit where its command is there, else the engine's own builder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import IO, Any, cast

from kaptain_magics.core.secrets import without_passwords
from kaptain_magics.errors import CredentialsError, ImageError
from kaptain_magics.images.build_context import FOLDER, PACKAGES, RUNTIME, Entry
from kaptain_magics.images.engine import Engine, explain_engine_error
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.tar_files import write_tar

_IN_MEMORY = 32 << 20
_TICK = 0.2
_AWAY = re.compile(
    r"refused|reset|no such host|timeout|timed out|EOF|unavailable|broken pipe|unreachable|bad gateway", re.I
)


def dockerfile(base: str, script: str, *, packages: bool, pip: bool) -> str:
    """Return the Dockerfile of a training image.

    Args:
        base: The base image.
        script: The script's file name.
        packages: Whether installed packages lie beside the context.
        pip: Whether pip has to install the requirements in the image.
    """
    lines = [f"FROM {base}", f"WORKDIR {FOLDER}"]
    lines += [f"ENV {name}={value}" for name, value in environment("${PYTHONPATH:+:$PYTHONPATH}").items()]
    if packages:
        lines.append(f"COPY packages/ {FOLDER}/{PACKAGES}/")
    if pip:
        lines += [
            f"COPY context/requirements.txt {FOLDER}/",
            "RUN python -m pip install --no-cache-dir -r requirements.txt",
        ]
    lines += [f"COPY context/ {FOLDER}/", f"ENTRYPOINT {json.dumps(entrypoint(script))}"]
    return "\n".join(lines) + "\n"


def entrypoint(script: str) -> list[str]:
    """Return the entry point of a training image."""
    return ["python", "-u", script]


def environment(rest: str = "") -> dict[str, str]:
    """Return the variables that a training image sets; ``rest`` ends the search path."""
    return {"PYTHONPATH": f"{FOLDER}/{RUNTIME}:{FOLDER}/{PACKAGES}{rest}", "PYTHONUNBUFFERED": "1"}


def build_image(
    engine: Engine,
    image: str,
    text: str,
    parts: Mapping[str, Iterable[Entry]],
    labels: Mapping[str, str],
    platform: str = "",
) -> Generator[str, None, str]:
    """Build an image in the engine.

    Args:
        engine: The engine.
        image: Name of the image.
        text: The Dockerfile; labels are set at its end.
        parts: The context's files by folder; the empty folder is the context itself.
        labels: The image's labels.
        platform: ``os/architecture``; empty for the engine's own.

    Yields:
        What the builder says, line by line.

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
            yield from _buildx(engine, image, context, platform)
        else:
            yield from _classic(engine, image, context, platform)
    with engine.translate_errors(image):
        return str(engine.client.images.get(image).id)


def _write_context(sink: IO[bytes], text: str, parts: Mapping[str, Iterable[Entry]]) -> None:
    entries = [Entry("Dockerfile", text.encode())]
    for folder, found in parts.items():
        entries += [entry._replace(path=f"{folder}/{entry.path}".lstrip("/")) for entry in found]
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


def _buildx(engine: Engine, image: str, context: IO[bytes], platform: str) -> Generator[str, None, None]:
    command = ["docker", "buildx", "build", "--progress=plain", "--load", "--tag", image]
    command += [*(["--platform", platform] if platform else []), "-"]
    env = {**os.environ, **({"DOCKER_HOST": engine.address} if engine.address else {})}
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as plain:
        shutil.copyfileobj(context, plain)
        plain.seek(0)
        process = subprocess.Popen(command, stdin=plain, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            while process.poll() is None:
                try:
                    process.wait(_TICK)
                except subprocess.TimeoutExpired:
                    yield ""
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").splitlines()
    if process.returncode:
        raise _failed([re.sub(r"^#\d+ (?:[\d.]+ )?", "", line) for line in lines])
    yield from (without_passwords(re.sub(r"^#\d+ ", "", line)) for line in lines)


def _classic(engine: Engine, image: str, context: IO[bytes], platform: str) -> Generator[str, None, None]:
    said: list[str] = []
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
                raise _failed([*said, str(step["error"])])
            for line in str(step.get("stream", "")).splitlines():
                if line.strip():
                    said.append(line)
                    yield without_passwords(line)
            yield ""


def _failed(said: Sequence[str]) -> ImageError:
    lines = [line.strip() for line in said if line.strip()]
    telling = [line for line in lines if re.match(r"(?:ERROR|error)[: ]", line)]
    reason = without_passwords((telling or lines or ["the builder said nothing"])[-1])
    known = explain_engine_error(reason)
    if known.hint:
        return ImageError(known.message, known.hint)
    return ImageError(
        f"the image cannot be built: {reason}", "see the lines above; `docker system df` shows free space"
    )


def push_built(engine: Engine, image: str, access: Access) -> Generator[str, None, None]:
    """Push an image from the engine to its registry; one that is away for a while is waited for.

    Raises:
        CredentialsError: The registry asks for another login.
        ImageError: The registry does not take it.
    """
    reference = Reference.parse(image)
    login = access.logins.of(reference.registry)
    until, pause = time.monotonic() + access.patience, 1.0
    while True:
        said = yield from _push(engine, image, login.for_engine if login is not None else {})
        if not said:
            return
        if not _AWAY.search(said) or time.monotonic() + pause > until:
            raise _refused(said, reference)
        again = time.monotonic() + pause
        while time.monotonic() < again:
            time.sleep(_TICK)
            yield ""
        pause *= 2


def _push(engine: Engine, image: str, login: Mapping[str, str]) -> Generator[str, None, str]:
    """Push once; returns what went wrong."""
    client = engine.client
    with engine.translate_errors(image):
        lines: Any = client.api.push(image, stream=True, decode=True, auth_config=dict(login))
        for line in lines:
            if "error" in line:
                return str(line["error"])
            yield ""
    return ""


def _refused(said: str, image: Reference) -> ImageError | CredentialsError:
    if re.search(r"unauthorized|denied|authentication|no basic auth", said, re.IGNORECASE):
        return CredentialsError(
            f"the registry {image.registry} does not let this login write {image.repository}",
            f"check the repository's name and your rights, or run docker login {image.registry}",
        )
    if re.search(r"x509|HTTPS client", said):
        return ImageError(
            f"the Docker engine does not trust the registry {image.registry}: {said}",
            f"put its authority's certificate into /etc/docker/certs.d/{image.registry}/ca.crt at the engine, or "
            "push without the engine: KAPTAIN_IMAGE_BUILDER=none",
        )
    return ImageError(f"the image cannot be pushed: {said}", "check the registry's name and the network")

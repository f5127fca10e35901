"""Images: the decision to skip, and an image without an engine against one built and pushed by an engine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kaptain_magics.core.names import new_hex
from kaptain_magics.images.progress import silent
from kaptain_magics.images.publish import Publisher
from kaptain_magics.images.recipe import recipe
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Registries
from tests.engine import LockedRegistry

pytestmark = [pytest.mark.benchmark, pytest.mark.docker]
ROUNDS = 5


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@pytest.fixture(scope="module")
def pushed(docker_host: str, docker_base_image: str, registry: LockedRegistry) -> dict[str, str]:
    """Settings; the base image is in the engine and in the registry."""
    import docker

    base = f"{registry.address}/{docker_base_image}"
    settings = {"docker_host": docker_host, "docker_config": str(registry.config), "base": base}
    image = Reference.parse(base)
    client = docker.DockerClient(base_url=docker_host)
    client.images.get(docker_base_image).tag(base)
    if Registries(Access.of(settings)).of(image).digest_of(image) is None:
        client.api.push(base, auth_config={"username": "kaptain", "password": registry.password})
    client.close()
    return settings


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """1,000 files, 10 KB each."""
    folder = tmp_path / "data"
    for number in range(1000):
        path = folder / f"{number % 20:02d}" / f"file-{number:04d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(10_000))
        os.utime(path, (time.time() - 3600,) * 2)
    return folder


def test_the_decision_to_skip(pushed: dict[str, str], registry: LockedRegistry, files: Path, tmp_path: Path) -> None:
    name = f"{registry.address}/kaptain-test/bench-{new_hex(8)}:1"

    def publish(builder: str) -> object:
        what = recipe(name, pushed["base"], "training.py", "print(1)", [str(files)])
        return Publisher(tmp_path / "cache", {**pushed, "image_builder": builder}).publish(what, silent)

    time.sleep(2.5)  # files that just changed are read again
    first = seconds(lambda: publish("none"))
    print("\n1,000 files, the image is in the registry        ms")
    for builder, label in (("none", "no engine"), ("", "engine asked for the base image")):
        publish(builder)
        best = min(seconds(lambda b=builder: publish(b)) for _ in range(ROUNDS))  # type: ignore[misc]
        print(f"  skip, {label:40}{best * 1e3:6.0f}   (target 100)")
    print(f"  first time: assembled and pushed              {first * 1e3:6.0f}")


@pytest.mark.parametrize("size", [1, 1000], ids=["script-only", "1000-files"])
def test_assembled_against_built_and_pushed(
    pushed: dict[str, str], registry: LockedRegistry, files: Path, tmp_path: Path, size: int
) -> None:
    """The same content: with ``docker build`` and ``docker push``, and without an engine."""
    given = [str(files)] if size > 1 else []
    env = {**os.environ, "DOCKER_HOST": pushed["docker_host"]}
    ours, theirs = [], []
    for _ in range(ROUNDS):
        source = f"print('{new_hex(16)}')\n"  # new content in every round
        name = f"{registry.address}/kaptain-test/bench-{new_hex(8)}:1"
        folder = tmp_path / new_hex(8)
        folder.mkdir()
        (folder / "training.py").write_text(source)
        if given:
            subprocess.run(["cp", "-r", str(files), str(folder / "data")], check=True)
        (folder / "Dockerfile").write_text(
            f"FROM {pushed['base']}\nWORKDIR /kaptain\nCOPY . /kaptain\n"
            "RUN if [ -e requirements.txt ]; then pip install --no-cache -r requirements.txt; fi\n"
            'ENTRYPOINT ["python", "-u", "training.py"]\n'
        )

        def with_docker(name: str = name, folder: Path = folder) -> None:
            for words in (["build", "-q", "-t", name, str(folder)], ["push", "-q", name]):
                command = ["docker", "--config", str(registry.config), *words]
                subprocess.run(command, env=env, check=True, capture_output=True)

        def without(name: str = name, source: str = source) -> None:
            what = recipe(name.replace(":1", ":2"), pushed["base"], "training.py", source, given)
            Publisher(tmp_path / "cache", {**pushed, "image_builder": "none"}).publish(what, silent)

        theirs.append(seconds(with_docker))
        ours.append(seconds(without))
        subprocess.run(["docker", "rmi", "-f", name], env=env, check=False, capture_output=True)
    one, other = sorted(ours)[ROUNDS // 2], sorted(theirs)[ROUNDS // 2]
    print(f"\n{size} files: assembled and pushed {one:.2f} s, docker build + push {other:.2f} s: {other / one:.1f} x")

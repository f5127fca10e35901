"""Images end to end: assembled without an engine, built by one, pushed, skipped; complete or absent."""

from __future__ import annotations

import gzip
import io
import json
import platform
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.names import new_hex
from kaptain_magics.errors import ImageError
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.engine import Engine, docker_platform
from kaptain_magics.images.engine_build import build_image
from kaptain_magics.images.publish import Publisher
from kaptain_magics.images.recipe import Published, Recipe, recipe
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Manifest, Registries
from tests.engine import LockedRegistry
from tests.local.images.test_requirements_of_images import wheel
from tests.parts.images.conftest import Cutter, Server, push_tiny, reference, run, skipped

Serve = Callable[..., Server]
SCRIPT = "import sys\nprint('trained with', sys.argv[1:])\n"


# ---- without an engine -----------------------------------------------------------------------------------------------


class Bench:
    """A registry of the test's own with a tiny base image in it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.base = push_tiny(server)
        self.settings = {"image_builder": "none", "docker_config": str(folder), "docker_host": "unix:///nowhere.sock"}

    def recipe(self, tag: str = "1", source: str = SCRIPT, **changes: Any) -> Recipe:
        name = f"{self.server.address}/team/mnist:{tag}"
        return recipe(name, changes.pop("base", self.base.name), "training.py", source, **changes)

    def publish(self, what: Recipe) -> tuple[Published, list[str]]:
        return run(partial(Publisher(self.folder / "cache", self.settings).publish, what))

    def look(self, name: str) -> tuple[Manifest, dict[str, Any], dict[str, tarfile.TarInfo], bytes]:
        """The manifest, the configuration, and what is in the layers above the base's."""
        image = Reference.parse(name)
        registry = Registries(Access.of(self.settings)).of(image)
        manifest = registry.platform_manifest(image)
        members, content = {}, b""
        for layer in manifest.fields["layers"][1:]:
            plain = gzip.decompress(b"".join(registry.read_blob(image, layer["digest"])))
            content += plain
            with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
                members |= {member.name: member for member in tar}
        return manifest, registry.config(image, manifest), members, content


@pytest.fixture
def bench(serve: Serve, tmp_path: Path) -> Bench:
    return Bench(serve(), tmp_path)


def test_an_image_is_assembled_on_top_of_its_base(bench: Bench) -> None:
    published, lines = bench.publish(bench.recipe())
    assert lines[0] == "Assembling the image without a Docker engine."
    assert lines[-1] == f"Image build completed successfully. Image pushed: {published.name}"
    manifest, config, members, _ = bench.look(published.name)
    assert manifest.digest == published.digest
    inner = config["config"]
    assert inner["Labels"] == {"maker": "tests", "checksum": published.checksum}
    assert inner["Entrypoint"] == ["python", "-u", "training.py"]
    assert inner["WorkingDir"] == "/kaptain"
    assert "PATH=/usr/bin" in inner["Env"]
    assert "PYTHONPATH=/kaptain/.kaptain:/kaptain/.packages:/opt" in inner["Env"]
    assert len(config["rootfs"]["diff_ids"]) == len(manifest.fields["layers"]) == 2
    assert "kaptain/training.py" in members
    assert "kaptain/.kaptain/kaptain_magics/runtime/launch.py" in members


def test_the_same_contents_are_skipped_and_a_change_is_not(bench: Bench, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1")
    first, _ = bench.publish(bench.recipe(files=[str(data)]))
    again, lines = bench.publish(bench.recipe(files=[str(data)]))
    assert lines == [skipped(first.name)]
    assert again == first._replace(skipped=True)
    data.write_text("2")
    changed, lines = bench.publish(bench.recipe(files=[str(data)]))
    assert not changed.skipped
    assert changed.checksum != first.checksum
    _, _, _, content = bench.look(changed.name)
    assert content


def test_the_same_inputs_make_the_same_image(bench: Bench) -> None:
    one, _ = bench.publish(bench.recipe("1"))
    two, _ = bench.publish(bench.recipe("2"))
    assert not two.skipped
    assert one.digest == two.digest


def test_no_secret_and_no_path_of_this_machine_is_in_a_layer(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / ".env").write_text("PASSWORD=hunter2")
    (folder / "plain.txt").write_text("plain")
    published, lines = bench.publish(bench.recipe(files=[str(folder)]))
    assert lines[0] == "Leaving out given/.env: it looks like credentials."
    _, config, members, content = bench.look(published.name)
    assert "kaptain/given/plain.txt" in members
    for word in ("hunter2", str(tmp_path), str(Path(__file__).parents[3])):
        assert word.encode() not in content
        assert word not in json.dumps(config)
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in members.values()} == {(0, 0, "", 0)}


def test_a_new_base_image_means_a_new_image(bench: Bench, tmp_path: Path) -> None:
    first, _ = bench.publish(bench.recipe())
    known = Reference.parse(bench.base.name)
    registry = Registries(Access.of(bench.settings)).of(known)
    changed = json.dumps({**registry.manifest(known).fields, "annotations": {"a": "b"}}).encode()
    registry.put_manifest(known, changed, registry.manifest(known).media_type)
    second, _ = bench.publish(bench.recipe())
    assert not second.skipped
    assert second.checksum != first.checksum


def test_requirements_become_a_layer_of_wheels(bench: Bench) -> None:
    wanted = ("numpy>=1.20", "tomli-w==1.2.0")
    published, lines = bench.publish(bench.recipe(requirements=wanted))
    assert "Fetching requirements that the base image lacks: tomli-w==1.2.0" in lines
    _, _, members, _ = bench.look(published.name)
    assert "kaptain/.packages/tomli_w/__init__.py" in members
    assert not [name for name in members if "/numpy" in name]
    assert "kaptain/requirements.txt" in members


def test_a_package_of_this_machine_goes_in_and_its_path_does_not(bench: Bench, tmp_path: Path) -> None:
    own = wheel(tmp_path / "dist", "kaptain_own", "1.0")
    wanted = ("--no-index", f"kaptain-own @ {own.as_uri()}")
    first, _ = bench.publish(bench.recipe(requirements=wanted))
    _, config, members, content = bench.look(first.name)
    assert "kaptain/.packages/kaptain_own/__init__.py" in members
    assert str(tmp_path).encode() not in content
    assert str(tmp_path) not in json.dumps(config)
    wheel(tmp_path / "dist", "kaptain_own", "1.0", origin="built anew")
    second, _ = bench.publish(bench.recipe(requirements=wanted))
    assert second.checksum != first.checksum


def test_requirements_that_do_not_exist_are_named(bench: Bench) -> None:
    with pytest.raises(ImageError, match=r"cannot be installed for Python 3\.11 on x86_64"):
        bench.publish(bench.recipe(requirements=("tomli-w==99.99",)))


def test_an_image_is_complete_or_absent(bench: Bench) -> None:
    cutter = Cutter(bench.server.port, after=3000, times=10_000)  # enough to ask, too little to send a layer
    what = bench.recipe()._replace(image=f"localhost:{cutter.port}/team/mnist:cut")
    try:
        publisher = Publisher(bench.folder / "cache", bench.settings)
        publisher._access = publisher._access._replace(retry_seconds=0.5)
        publisher._registries = Registries(publisher._access)
        with pytest.raises(ImageError):
            run(partial(publisher.publish, what))
    finally:
        cutter.close()
    image = reference(bench.server, "team/mnist", "cut")
    assert Registries(Access.of(bench.settings)).of(image).digest_of(image) is None


def test_a_base_image_that_is_nowhere_is_reported(bench: Bench) -> None:
    with pytest.raises(ImageError, match="neither in a Docker engine here nor in its registry"):
        bench.publish(bench.recipe(base=f"{bench.server.address}/base/none:1"))


def test_a_registry_that_is_away_is_ridden_out(bench: Bench) -> None:
    bench.server.stop()
    threading.Timer(5.0, bench.server.start).start()
    published, _ = bench.publish(bench.recipe())
    assert published.digest


def test_the_platform_is_a_part_of_what_an_image_is(bench: Bench) -> None:
    def checksum(**settings: str) -> str:
        return Publisher(bench.folder / "cache", {**bench.settings, **settings}).checksum(bench.recipe())

    assert checksum() == checksum(image_platform=docker_platform(platform.machine()))
    assert checksum() != checksum(image_platform="linux/s390x")


# ---- with an engine, and the registry that asks for a password -------------------------------------------------------


@pytest.mark.docker
@pytest.mark.parametrize("builder", ["engine", "none"])
def test_both_ways_make_an_image_that_runs_without_root(
    pushed: dict[str, str], registry: LockedRegistry, tmp_path: Path, builder: str
) -> None:
    import docker

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.txt").write_text("beside")
    source = (
        "import os, sys, sklearn, tomli_w\n"
        "from kaptain.platform.metadata_util import MetadataUtil\n"
        "open('data/new.txt', 'w').close()\n"
        "print(os.getuid(), sys.argv[1:], open('data/x.txt').read())\n"
    )
    name = f"{registry.address}/kaptain-test/{builder}-{new_hex(8)}:1"
    wanted = ("scikit-learn>0.24.2", "tomli-w==1.2.0")
    what = recipe(name, pushed["base"], "training.py", source, [str(tmp_path / "data")], wanted)
    settings = {**pushed, "image_builder": builder}
    published, lines = run(partial(Publisher(tmp_path / "cache", settings).publish, what))
    assert lines[0] == (
        "Building Docker image." if builder == "engine" else "Assembling the image without a Docker engine."
    )
    assert published.digest
    again, lines = run(partial(Publisher(tmp_path / "cache", settings).publish, what))
    assert lines == [skipped(name)]
    assert again.digest == published.digest
    assert registry.password not in "".join(lines)
    client = docker.DockerClient(base_url=pushed["docker_host"])
    client.api.pull(published.pinned, auth_config={"username": "kaptain", "password": registry.password})
    said = client.containers.run(published.pinned, ["--gamma", "1"], user="4321:4321", group_add=["0"], remove=True)
    assert said.decode() == "4321 ['--gamma', '1'] beside\n"
    client.images.remove(published.pinned, force=True)
    client.close()


@pytest.mark.docker
def test_an_image_of_docker_hub_stays_in_the_engine_without_a_login(pushed: dict[str, str], tmp_path: Path) -> None:
    what = recipe(f"kaptain-test/kept-{new_hex(6)}:1", pushed["base"], "training.py", SCRIPT)
    settings = {"docker_host": pushed["docker_host"], "docker_config": str(tmp_path)}
    published, lines = run(partial(Publisher(tmp_path / "cache", settings).publish, what, keep_in_engine=True))
    assert published.digest == ""
    assert lines[-1].startswith(f"Keeping {what.image} in the Docker engine")
    again, lines = run(partial(Publisher(tmp_path / "cache", settings).publish, what, keep_in_engine=True))
    assert again.skipped
    assert lines == [skipped(what.image)]


# ---- BuildKit's command ----------------------------------------------------------------------------------------------


@pytest.fixture
def buildx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the Docker command with BuildKit: notes its arguments, takes the context, builds nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "docker"
    script.write_text(
        f'#!/bin/sh\n[ "$2" = version ] && exit 0\necho "$@" > {tmp_path}/told\ncat > {tmp_path}/context.tar\n'
        f"cat {tmp_path}/says 2>/dev/null\n[ ! -e {tmp_path}/says ]\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return tmp_path


@pytest.mark.docker
def test_buildkit_gets_the_whole_context(buildx: Path, docker_host: str, docker_base_image: str) -> None:
    engine = Engine({"docker_host": docker_host})

    def build() -> tuple[str, list[str]]:
        parts = {"context": [Entry("a/b.txt", b"content")]}
        labels = {"checksum": "1"}
        return run(partial(build_image, engine, docker_base_image, "FROM x\n", parts, labels, platform="linux/amd64"))

    assert build()[0].startswith("sha256:")
    told = (buildx / "told").read_text()
    assert told == f"buildx build --progress=plain --load --tag {docker_base_image} --platform linux/amd64 -\n"
    with tarfile.open(buildx / "context.tar") as tar:
        assert tar.extractfile("Dockerfile").read() == b'FROM x\nLABEL checksum="1"\n'  # type: ignore[union-attr]
        assert tar.extractfile("context/a/b.txt").read() == b"content"  # type: ignore[union-attr]
    (buildx / "says").write_text("#5 [2/3] RUN false\n#5 0.123 sh: no\nERROR: failed to solve: exit code: 1\n")
    with pytest.raises(ImageError, match="failed to solve: exit code: 1"):
        build()

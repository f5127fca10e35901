"""Images from a Dockerfile of one's own: built, pushed, skipped, and built again when something changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kaptain_magics.core.names import new_hex
from kaptain_magics.errors import ImageError, TargetError
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.dockerfile_builder import ImageBuilder
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.engine_build import build_image, push_built
from kaptain_magics.images.progress import silent
from kaptain_magics.images.recipe import Published
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Registries
from tests.engine import LockedRegistry
from tests.parts.images.conftest import Server, reference, run, skipped

Serve = Callable[..., Server]


def test_a_dockerfile_needs_an_engine(serve: Serve, tmp_path: Path) -> None:
    settings = {"docker_host": "unix:///nowhere.sock", "docker_config": str(tmp_path)}
    builder = ImageBuilder(f"{serve().address}/team/own:1", "FROM scratch\n", settings=settings, cache=tmp_path)
    with pytest.raises(TargetError, match="a Dockerfile needs one"):
        run(builder.build_image)


@pytest.mark.docker
def test_a_dockerfile_of_ones_own_is_built_pushed_and_skipped(
    pushed: dict[str, str], registry: LockedRegistry, tmp_path: Path
) -> None:
    (tmp_path / "trainer.py").write_text("print('own')\n")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt").write_text("a")
    text = f'FROM {pushed["base"]}\nWORKDIR /workdir\nCOPY . /workdir\nENTRYPOINT ["python", "trainer.py"]'
    name = f"{registry.address}/kaptain-test/own-{new_hex(8)}:1"

    def build() -> tuple[Published, list[str]]:
        files = ["trainer.py", "set"]
        return run(
            ImageBuilder(name, text, files, folder=tmp_path, settings=pushed, cache=tmp_path / "cache").build_image
        )

    published, lines = build()
    assert lines[0] == "Building Docker image."
    image = Reference.parse(name)
    found = Registries(Access.of(pushed)).of(image).digest_and_labels(image)
    assert found == (published.digest, {"checksum": published.checksum})
    assert build()[1] == [skipped(name)]
    (tmp_path / "set" / "a.txt").write_text("b")
    assert not build()[0].skipped


@pytest.mark.docker
def test_a_dockerfile_whose_base_moved_is_built_again(
    pushed: dict[str, str], registry: LockedRegistry, tmp_path: Path
) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text("a = 1\n")
    where = f"{registry.address}/kaptain-test/own-{new_hex(8)}"
    text = f"FROM {where}:base\nCOPY .streamlit/config.toml /config.toml\n"

    def base(word: str) -> None:
        engine, made = Engine(pushed), f"{where}:{word}"
        build_image(engine, made, "FROM scratch\nCOPY a /\n", {"": [Entry("a", made.encode())]}, {}, silent)
        engine.client.images.get(made).tag(f"{where}:base")

    def build() -> tuple[Published, list[str]]:
        files = ["./.streamlit/config.toml"]
        return run(
            ImageBuilder(f"{where}:1", text, files, folder=tmp_path, settings=pushed, cache=tmp_path).build_image
        )

    base("old")
    first, _ = build()
    assert build()[1] == [skipped(f"{where}:1")]
    base("new")
    moved, _ = build()
    assert not moved.skipped
    assert moved.checksum != first.checksum


@pytest.mark.docker
def test_a_push_to_a_registry_that_is_away_is_tried_again(pushed: dict[str, str], serve: Serve) -> None:
    engine, server = Engine(pushed), serve(started=False)
    image = reference(server, "kaptain-test/kept-away")
    name = f"{server.address}/{image.repository}:{image.tag}"
    build_image(engine, name, "FROM scratch\nCOPY a /a\n", {"": [Entry("a", b"a")]}, {}, silent)
    with pytest.raises(ImageError, match="cannot be pushed"):
        push_built(engine, name, Access.of(pushed)._replace(retry_seconds=0.5), silent)
    threading.Timer(2.0, server.start).start()
    push_built(engine, name, Access.of(pushed), silent)
    assert Registries(Access.of(pushed)).of(image).digest_of(image)


@pytest.mark.docker
def test_a_build_that_fails_says_which_step(pushed: dict[str, str], registry: LockedRegistry, tmp_path: Path) -> None:
    text = f"FROM {pushed['base']}\nRUN false\n"
    builder = ImageBuilder(f"{registry.address}/kaptain-test/bad:1", text, settings=pushed, cache=tmp_path)
    with pytest.raises(ImageError, match="false"):
        run(builder.build_image)

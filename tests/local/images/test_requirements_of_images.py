"""Requirements lines: the user's options, files and hashes count, and nothing of this machine gets into an image."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from kaptain_magics.errors import ImageError
from kaptain_magics.images.build_context import training_context
from kaptain_magics.images.image_contents import ImageContents
from kaptain_magics.images.progress import silent
from kaptain_magics.images.requirement_lines import check_no_password, local_files, name_of, shown, without_paths
from kaptain_magics.images.wheels import Platform, install

T = TypeVar("T")
PLATFORM = Platform("3.11", "x86_64")


def wheel(folder: Path, name: str, version: str, requires: Sequence[str] = (), origin: str = "private") -> Path:
    folder.mkdir(exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    content = {
        f"{name}/__init__.py": f"ORIGIN = {origin!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*content, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as packed:
        for file, text in content.items():
            packed.writestr(file, text)
    return path


def run(work: Generator[str, None, T]) -> T:
    try:
        while True:
            next(work)
    except StopIteration as done:
        result: T = done.value
        return result


@pytest.fixture
def offline(tmp_path: Path) -> list[str]:
    """Options that let pip find the private packages and nothing else."""
    wheel(tmp_path / "links", "kaptain_dep", "1.0")
    wheel(tmp_path / "links", "kaptain_base", "2.0")
    return ["--no-index", f"--find-links {tmp_path / 'links'}"]


def test_files_options_and_what_they_need_are_kept_for_a_known_image(tmp_path: Path, offline: list[str]) -> None:
    wheel(tmp_path / "links", "kaptain_own", "9.9", origin="public")
    own = wheel(tmp_path / "dist", "kaptain_own", "1.0", ["kaptain-dep", "kaptain-base"])
    lines = [*offline, f"kaptain-own @ {own.as_uri()}"]
    folder = install(lines, PLATFORM, tmp_path / "cache", silent, {"kaptain-base": "2.0"})
    assert (folder / "kaptain_own/__init__.py").read_text() == "ORIGIN = 'private'\n"
    assert (folder / "kaptain_dep/__init__.py").exists()
    assert not (folder / "kaptain_base").exists()
    for path in folder.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()
    record = folder / "kaptain_own-1.0.dist-info/RECORD"
    assert "kaptain_own/__init__.py" in record.read_text()
    assert "direct_url" not in record.read_text()
    assert not list(folder.rglob("direct_url.json"))


def test_a_file_of_the_same_version_comes_in_the_place_of_the_images_own(tmp_path: Path, offline: list[str]) -> None:
    own = wheel(tmp_path / "dist", "kaptain_own", "1.0")
    lines = [*offline, f"kaptain-own @ {own.as_uri()}"]
    first = install(lines, PLATFORM, tmp_path / "cache", silent, {"kaptain-own": "1.0"})
    assert (first / "kaptain_own/__init__.py").read_text() == "ORIGIN = 'private'\n"
    wheel(tmp_path / "dist", "kaptain_own", "1.0", origin="built anew")
    again = install(lines, PLATFORM, tmp_path / "cache", silent, {"kaptain-own": "1.0"})
    assert (again / "kaptain_own/__init__.py").read_text() == "ORIGIN = 'built anew'\n"


def test_hashes_are_checked_for_a_known_image(tmp_path: Path, offline: list[str]) -> None:
    own = wheel(tmp_path / "links", "kaptain_own", "1.0", ["kaptain-base"])
    digests = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in {"own": own, "base": tmp_path / "links/kaptain_base-2.0-py3-none-any.whl"}.items()
    }
    lines = [
        *offline,
        f"kaptain-own==1.0 --hash=sha256:{digests['own']}",
        f"kaptain-base==2.0 --hash=sha256:{digests['base']}",
    ]
    inside = ImageContents("3.11", "x86_64", 36, {"kaptain-base": "2.0"})
    assert inside.missing(lines) == lines
    folder = install(lines, PLATFORM, tmp_path / "cache", silent, inside.installed)
    assert (folder / "kaptain_own").exists()
    assert not (folder / "kaptain_base").exists()
    lines[2] = f"kaptain-own==1.0 --hash=sha256:{'0' * 64}"
    with pytest.raises(ImageError):
        install(lines, PLATFORM, tmp_path / "other", silent, inside.installed)


def test_a_satisfied_line_with_options_is_not_missing() -> None:
    inside = ImageContents("3.11", "x86_64", 36, {"numpy": "1.26.4"})
    assert inside.missing([f"numpy==1.26.4 --hash=sha256:{'0' * 64}", "--no-index"]) == []
    assert inside.missing(["numpy==1.26.4  # for arrays", "scipy"]) == ["scipy"]


def test_no_path_of_this_machine_is_in_the_requirements_of_an_image(tmp_path: Path) -> None:
    lines = [f"own @ file://{tmp_path}/own-1.0.whl", f"--find-links={tmp_path}", f"{tmp_path}/a.whl", "numpy>=1.26"]
    context = training_context("t.py", "", (), lines)
    text = next(entry.source for entry in context.entries if entry.path == "requirements.txt")
    assert isinstance(text, bytes)
    assert str(tmp_path).encode() not in text
    assert text.endswith(b"numpy>=1.26\n")
    assert text.startswith(b"# own @ own-1.0.whl (a file of another machine)\n")
    public = ["--extra-index-url https://host/simple", "a @ https://host/a.whl", "git+ssh://git@host/x.git"]
    assert without_paths(public) == public


@pytest.mark.parametrize(
    "line",
    [
        "--extra-index-url https://me:hunter2@host/simple",
        "own @ git+https://hunter2@host/own.git",
        "--index-url=https://hunter2@host/simple",
        "own @ https://:hunter2@host/own.whl",
    ],
)
def test_passwords_and_tokens_are_refused_and_never_shown(line: str) -> None:
    with pytest.raises(ImageError, match="line 2") as raised:
        check_no_password(["numpy", line])
    assert "hunter2" not in f"{raised.value} {raised.value.hint} {shown([line])}"


def test_logins_that_are_none_may_stay() -> None:
    check_no_password(["own @ git+ssh://git@host/own.git", "--index-url https://me:${TOKEN}@host", "numpy"])


def test_names_and_files_of_lines(tmp_path: Path) -> None:
    own = wheel(tmp_path / "links", "kaptain_own", "1.0")
    assert [name_of(line) for line in ("A_b.c[x]>=1 ; python_version>'3'", "./a.whl", "--pre", "n==1 --hash=x")] == [
        "a-b-c",
        "",
        "",
        "n",
    ]
    assert local_files([f"kaptain-own @ {own.as_uri()}", f"-f {own.parent}", str(own), "numpy"]) == [own] * 3
    assert local_files(["a @ file:///nowhere/a.whl"]) == []

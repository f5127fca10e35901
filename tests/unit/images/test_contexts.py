"""What goes into an image, how it is packed, and when it counts as changed."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kaptain_magics.errors import ImageError
from kaptain_magics.images.assemble.layers import make_layer
from kaptain_magics.images.build_context import Entry, runtime_entries, training_context
from kaptain_magics.images.content_digest import FileDigests, image_digest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "größe.csv").write_text("1,2\n", encoding="utf-8")
    (folder / "data" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "data" / "run.sh").chmod(0o755)
    (folder / "data" / "__pycache__").mkdir()
    (folder / "data" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (folder / "model.py").write_text("VALUE = 1\n")
    return folder


def paths(project: Path, *names: str) -> list[str]:
    files = [str(project / name) for name in names]
    return [entry.path for entry in training_context("training.py", "x = 1", files, ()).entries]


def test_script_files_and_runtime_go_in(project: Path) -> None:
    found = paths(project, "data", "model.py")
    own = [path for path in found if not path.startswith(".kaptain/")]
    assert own == ["data/deep/größe.csv", "data/run.sh", "model.py", "training.py"]
    assert ".kaptain/kaptain_magics/runtime/launch.py" in found
    assert ".kaptain/kaptain/platform/model_export_util.py" in found
    assert not [path for path in found if "/model/" in path or "/targets/" in path]


@pytest.mark.interpreter
def test_the_runtime_needs_nothing_but_python(tmp_path: Path) -> None:
    for entry in runtime_entries("r"):
        path = tmp_path / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.source if isinstance(entry.source, bytes) else entry.source.read_bytes())
    (tmp_path / "training.py").write_text(
        "from kaptain.platform.model_export_util import ModelExportUtil\n"
        "from kaptain.platform.metadata_util import MetadataUtil\n"
        "import kaptain\n"
        "MetadataUtil.record_metrics({'accuracy': 0.5})\n"
    )
    (tmp_path / "program.json").write_text('{"script": "training.py"}')
    done = subprocess.run(
        [sys.executable, "-S", "-m", "kaptain_magics.runtime.launch", "program.json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "r"), "KAPTAIN_CHANNEL": "stdout"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy=0.5" in done.stdout


def test_files_that_hold_secrets_stay_out(project: Path) -> None:
    (project / "data" / ".env").write_text("TOKEN=1")
    (project / "data" / "id_rsa").write_text("key")
    (project / "data" / ".aws").mkdir()
    (project / "data" / ".aws" / "credentials").write_text("key")
    context = training_context("training.py", "", [str(project / "data")], ())
    assert sorted(context.left_out) == ["data/.aws", "data/.env", "data/id_rsa"]
    assert not [
        entry for entry in context.entries if entry.path in ("data/.env", "data/id_rsa", "data/.aws/credentials")
    ]
    with pytest.raises(ImageError, match="looks like credentials"):
        training_context("training.py", "", [str(project / "data" / ".env")], ())


def test_requirements_with_a_password_are_refused_without_showing_it() -> None:
    with pytest.raises(ImageError, match="line 2") as raised:
        training_context("t.py", "", (), ["numpy", "--index-url https://me:hunter2@host/simple"])
    assert "hunter2" not in str(raised.value)


def test_what_is_missing_twice_or_endless_is_reported(project: Path) -> None:
    with pytest.raises(ImageError, match="there is no file or folder"):
        paths(project, "nothing")
    (project / "training.py").write_text("")
    with pytest.raises(ImageError, match=r"two files are named training\.py"):
        paths(project, "training.py")
    (project / "data" / "loop").symlink_to(project / "data")
    with pytest.raises(ImageError, match="a link to a folder that holds it"):
        paths(project, "data")


def test_a_layer_depends_on_names_and_contents_only(project: Path, tmp_path: Path) -> None:
    entries = list(training_context("training.py", "x = 1", [str(project / "data")], ()).entries)
    first = make_layer(entries, "/kaptain", "test")
    twin = tmp_path / "elsewhere" / "data"
    shutil.copytree(project / "data", twin)
    os.utime(twin / "run.sh", (1, 1))
    other = list(training_context("training.py", "x = 1", [str(twin)], ()).entries)
    second = make_layer(reversed(other), "/kaptain", "test")
    assert (first.digest, first.diff_id, first.size) == (second.digest, second.diff_id, second.size)
    data = first.file.read()
    first.file.close()
    second.file.close()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}
    modes = {m.name: m.mode for m in members}
    assert modes["kaptain/data/run.sh"] == 0o775
    assert modes["kaptain/training.py"] == 0o664
    assert modes["kaptain/data"] == 0o775
    for word in (str(project), str(Path.home()), os.environ.get("USER", "nobody-at-all")):
        if word not in ("/root", "root"):
            assert word.encode() not in gzip.decompress(data)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.bin"):
        make_layer([Entry("gone.bin", tmp_path / "gone.bin")], "/kaptain", "test")


Digest = Callable[..., str]


@pytest.fixture
def digest(tmp_path: Path, project: Path) -> Digest:
    def of(**changes: object) -> str:
        entries = training_context(
            "training.py", "x = 1", [str(project / "data"), str(project / "model.py")], ()
        ).entries
        settings = {"base": "sha256:1", "requirements": ("numpy",), "entrypoint": ("python", "training.py"), **changes}
        return image_digest(entries, FileDigests(tmp_path / "cache" / "files"), **settings)  # type: ignore[arg-type]

    return of


def test_the_digest_covers_everything_that_an_image_is_made_of(digest: Digest, project: Path) -> None:
    first = digest()
    assert digest() == first
    seen = {
        first,
        digest(base="sha256:2"),
        digest(requirements=("numpy", "scipy")),
        digest(requirements=()),
        digest(entrypoint=("python", "-u", "training.py")),
        digest(settings={"platform": "linux/arm64"}),
    }
    assert len(seen) == 6
    (project / "model.py").write_text("VALUE = 2\n")
    changed = digest()
    (project / "data" / "run.sh").chmod(0o644)
    plain = digest()
    (project / "data" / "run.sh").rename(project / "data" / "walk.sh")
    assert len({first, changed, plain, digest()}) == 4


def test_a_change_behind_the_cache_is_seen(digest: Digest, project: Path) -> None:
    path = project / "model.py"
    os.utime(path, (1_000_000, 1_000_000))
    first = digest()
    assert digest() == first
    status = path.stat()
    path.write_text("VALUE = 2\n")  # the same size ...
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # ... and the same time
    assert digest() != first


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(b"x" * 1000)
    monkeypatch.setattr("kaptain_magics.images.content_digest._SETTLED", -1.0)
    cache = tmp_path / "cache"
    known = FileDigests(cache)
    first = known.of(path)
    known.save()
    monkeypatch.setattr("hashlib.file_digest", None)
    assert FileDigests(cache).of(path) == first

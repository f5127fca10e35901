"""Files beside the notebook in a job's folder: there to be read, the job's own where it writes, gone when unchanged."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from kaptain_magics.runtime import beside
from kaptain_magics.runtime.beside import Beside, LinkedFileError
from kaptain_magics.runtime.module_search import forget, search

CONTENT = "a,b\n1,2\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("data.csv", "data/a.csv", "data/deep/b.csv", "data/.git/x", "data/__pycache__/y"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(CONTENT)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "work"
    folder.mkdir(parents=True)
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def everything(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_small_files_are_copies_that_go_again(source: Path, work: Path) -> None:
    job = Beside(str(work), [str(source)])
    job.lay("data.csv", str(source / "data.csv"))
    job.lay("data", str(source / "data"))
    assert files(work) == {"data.csv", "data/a.csv", "data/deep/b.csv"}  # no caches, no repository
    assert not any(path.is_symlink() for path in work.rglob("*"))
    (work / "data" / "new.csv").write_text("new")
    (work / "data.csv").write_text("changed")
    assert job.leave() == []
    assert files(work) == {"data.csv", "data/new.csv"}
    assert set(everything(source).values()) == {CONTENT}


def test_large_files_are_links_until_they_are_written(
    source: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_COPIED", 3)
    monkeypatch.setattr(beside, "clone", lambda *_: False)
    job = Beside(str(work), [str(source)])
    job.lay("data.csv", str(source / "data.csv"))
    job.lay("data", str(source / "data"))
    assert (work / "data.csv").is_symlink()
    assert (work / "data" / "a.csv").is_symlink()
    assert not (work / "data").is_symlink()  # new files in it are the run's
    job._opened("x", "w", os.O_WRONLY | os.O_TRUNC)  # of another place
    job._opened(str(work / "data.csv"), "a", os.O_WRONLY | os.O_APPEND)
    assert not (work / "data.csv").is_symlink()
    assert (work / "data.csv").read_text() == CONTENT
    job._opened(str(work / "data" / "a.csv"), "w", os.O_WRONLY | os.O_TRUNC)
    assert not (work / "data" / "a.csv").exists()
    assert job.leave() == []
    assert files(work) == set()
    assert set(everything(source).values()) == {CONTENT}


def test_what_the_script_changes_is_a_copy_whatever_its_size(
    source: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_COPIED", 3)
    job = Beside(str(work), [str(source)])
    job.lay("data.csv", str(source / "data.csv"), changes=True)
    assert not (work / "data.csv").is_symlink()


def test_a_very_large_file_is_not_opened_for_writing(source: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_COPIED", "_LARGEST_CHANGED"):
        monkeypatch.setattr(beside, name, 3)
    monkeypatch.setattr(beside, "clone", lambda *_: False)
    job = Beside(str(work), [str(source)])
    job.lay("data.csv", str(source / "data.csv"))
    with pytest.raises(LinkedFileError, match="must not change it\nopen it for reading only"):
        job._opened(str(work / "data.csv"), "r+", os.O_RDWR)
    job._opened(str(work / "data.csv"), "w", os.O_RDWR | os.O_TRUNC)  # nothing of it is needed
    assert not (work / "data.csv").exists()


def test_folders_with_very_many_files_are_links_until_they_are_written(
    source: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_LAID", 2)
    job = Beside(str(work), [str(source)])
    job.lay("data", str(source / "data"))
    assert (work / "data").is_symlink() or (work / "data" / "deep").is_symlink()
    job._opened(str(work / "data" / "deep" / "new.csv"), "w", os.O_WRONLY | os.O_TRUNC)
    (work / "data" / "deep" / "new.csv").write_text("new")
    job._changed_above(str(work / "data" / "a.csv"))
    (work / "data" / "a.csv").unlink()
    assert set(everything(source).values()) == {CONTENT}
    job.leave()
    assert files(work) == {"data/deep/new.csv"}


def test_what_is_opened_or_listed_comes_then(source: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    job = Beside(str(work), [str(source)])
    job._opened("data/a.csv", "r", os.O_RDONLY)
    assert files(work) == {"data/a.csv"}
    job._opened("data.csv", "w", os.O_WRONLY | os.O_TRUNC)
    job._opened("none.csv", "r", os.O_RDONLY)
    assert files(work) == {"data/a.csv"}
    job._listed(None)
    assert files(work) == {"data/a.csv", "data.csv"}
    job._listed("data/deep")
    assert files(work) == {"data/a.csv", "data.csv", "data/deep/b.csv"}
    job._connected("file:data.csv?mode=ro")
    job.leave()
    assert list(work.iterdir()) == []


def test_a_file_that_two_folders_have_is_not_guessed(source: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    other = source.parent / "other"
    other.mkdir()
    (other / "data.csv").write_text("another")
    Beside(str(work), [str(source), str(other)])._opened("data.csv", "r", os.O_RDONLY)
    assert files(work) == set()


def test_a_change_behind_a_link_is_reported(source: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_COPIED", 3)
    monkeypatch.setattr(beside, "clone", lambda *_: False)
    job = Beside(str(work), [str(source)])
    job.lay("data.csv", str(source / "data.csv"))
    (source / "data.csv").write_text("by a library that opens files itself")
    assert job.leave() == [str(source / "data.csv")]


def test_modules_are_compiled_again_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("path", "path_hooks", "path_importer_cache", "dont_write_bytecode"):
        value = getattr(sys, name)
        monkeypatch.setattr(sys, name, value if isinstance(value, bool) else type(value)(value))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    module = tmp_path / "edited_helper.py"
    module.write_text("VALUE = 1\n")
    search([str(tmp_path)])
    monkeypatch.setitem(sys.modules, "edited_helper", importlib.import_module("edited_helper"))
    assert sys.modules["edited_helper"].VALUE == 1
    before = module.stat()
    module.write_text("VALUE = 2\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))  # edited within one tick of the clock
    del sys.modules["edited_helper"]
    assert importlib.import_module("edited_helper").VALUE == 2
    assert list(tmp_path.iterdir()) == [module]
    assert sys.path.index(str(tmp_path)) > next(n for n, p in enumerate(sys.path) if p.endswith("lib-dynload"))


def test_an_installed_module_of_the_same_name_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("same_name", "same_name.inner", "same_name_too"):
        monkeypatch.setitem(sys.modules, name, sys)
    forget("same_name")
    assert {name for name in sys.modules if name.startswith("same_name")} == {"same_name_too"}

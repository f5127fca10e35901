"""Warm workers of a test's own: no other worker serves its jobs, and none outlives it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import until


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, and so for workers' sockets, of this test and of what it starts."""
    folder = Path(tempfile.mkdtemp(prefix="kpt"))  # sockets need short paths
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    try:
        yield folder
    finally:
        monkeypatch.undo()
        until(lambda: not [end(process) for process in workers_of(folder)], what="the end of the workers")
        shutil.rmtree(folder, ignore_errors=True)


def workers_of(folder: Path) -> list[psutil.Process]:
    """The workers whose temporary folder it is, and their jobs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if environment.get("TMPDIR") == str(folder) and "KAPTAIN_ZYGOTE" in environment:
                found.append(process)
    return [process for process in found if not gone(process.pid)]


def end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        os.kill(process.pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def packages(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
    """Make modules that look installed, so that workers import them."""
    place = folder / "more-packages"
    (place / "__pycache__").mkdir(parents=True)  # made by the first import, it would make the folder look changed
    for name, source in modules.items():
        (place / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH", "")])))

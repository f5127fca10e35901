"""A full disk under the state folder: a run still ends, with its reason."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics.core.events import StateChanged
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.errors import StateError
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from kaptain_magics.state import RunFolder, RunRecord, RunStore
from tests.disks import small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


def fill(folder: Path) -> None:
    with open(folder / "rest", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_run_whose_end_cannot_be_written_ends_for_every_reader(disk: Path) -> None:
    record = RunRecord(run_id="r", kind=RunKind.TRAIN, name="n", model_id="m", target="local", created=0.0)
    made = RunStore(disk).create(record)
    fill(disk)
    made.lock.release()  # as its supervisor's death does
    events = []
    for event in RunFolder(made.path).follow(tick=0.1):
        events.append(event)
        assert len(events) < 100, "the run does not end"
    last = events[-1]
    assert isinstance(last, StateChanged)
    assert last.state is RunState.FAILED
    assert "No space left on device" in last.reason
    assert "free disk space" in last.hint
    assert RunFolder(made.path).last_state().reason == last.reason
    (row,) = RunStore(disk).summaries()
    assert row.state is RunState.FAILED
    os.unlink(disk / "rest")
    assert "was killed" in RunFolder(made.path).last_state().reason


def try_to_run(workspace: Workspace) -> str:
    """How a run ends, or why it did not start."""
    try:
        run = workspace.model("dev/full").plan_training(TrainingRequest(script=capture("print('x')"))).start()
    except StateError as error:
        return error.message
    return str(run.wait(30)) + run.reason + run.log()


def test_a_run_on_a_disk_that_is_nearly_full_ends(
    disk: Path, home: Path, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As much as fits: the record, the supervisor's log, its first events, or nothing at all."""
    monkeypatch.setenv("KAPTAIN_HOME", str(disk))
    workspace = Workspace()
    for spare in range(8):
        fill(disk)
        os.truncate(disk / "rest", os.stat(disk / "rest").st_size - spare * 4096)
        said = try_to_run(workspace)
        assert "succeeded" in said or "No space left on device" in said or "last output could not be written" in said
        os.unlink(disk / "rest")
        for folder in workspace.store.folders():
            workspace.store.discard(folder)

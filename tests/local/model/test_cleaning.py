"""``clean`` goes on behind what cannot be removed, and behind runs of any name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.states import RunKind
from kaptain_magics.model import Workspace, cleaning
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from tests.seaweed import SeaweedFS

SCRIPT = "x = 1\n"


@pytest.mark.usefixtures("home")
def test_one_that_cannot_be_removed_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "first")

    def look(_: Workspace) -> object:
        yield cleaning._Leftover("first", refuse)
        yield cleaning._Leftover("second", lambda: removed.append("second"))
        raise OSError(5, "Input/output error", "third")

    monkeypatch.setattr(cleaning, "_folders", look)
    lines = Workspace().clean(force=True)
    assert lines[0].startswith("first: cannot be removed now: ")
    assert lines[1] == "second"
    assert removed == ["second"]
    assert "cannot be checked now" in lines[2]


@pytest.mark.s3
def test_runs_of_any_name_do_not_stop_it(home: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**seaweed.env, "KAPTAIN_STORAGE_URI": "s3://cleaning/models"}.items():
        monkeypatch.setenv(name, value)
    workspace = Workspace()
    run = workspace.model("dev/clean").plan_training(TrainingRequest(script=capture(SCRIPT))).start()
    run.wait(60)
    record = run.record
    job = msgspec.structs.replace(record.job, upload_uri=record.job.upload_uri.replace("dev/clean", "a\nb"))
    for name, model_id in (("broken", "a\nb"), ("long", "x" * 1100)):
        folder = home / "runs" / f"{record.run_id}{name}"
        folder.mkdir()
        for path in (home / "runs" / record.run_id).iterdir():
            if path.is_file():
                (folder / path.name).write_bytes(path.read_bytes())
        changed = msgspec.structs.replace(
            record,
            run_id=folder.name,
            kind=RunKind.TUNE,
            model_id=model_id,
            target="kubernetes",
            job=msgspec.structs.replace(job, model_id=model_id),
        )
        (folder / "run.json").write_bytes(msgspec.json.encode(changed))
    assert not [line for line in workspace.clean(force=True) if "cannot" in line and "kubernetes" not in line]

"""``clean`` goes on behind runs of any name whose models are in an S3 server."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.states import RunKind
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from tests.seaweed import SeaweedFS

SCRIPT = "x = 1\n"


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

"""The keys of a store are written nowhere."""

from __future__ import annotations

import pytest

from kaptain_magics.model import Workspace
from tests.planted import MARKS, TRAIN, Everything, command_lines, nowhere
from tests.seaweed import SeaweedFS
from tests.shell import Notebook


@pytest.mark.s3
def test_keys_of_the_store(
    notebook: Notebook, everything: Everything, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweed.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KAPTAIN_STORAGE_URI", "s3://planted/models")
    monkeypatch.delenv("KAPTAIN_TRACKING_URI")
    with command_lines(everything.shown):
        run = notebook.run(TRAIN.format(**MARKS))
        endpoint = notebook.run("%kaptain_deploy dev/planted --env DEMO_NAME")
        everything.add(run, run.record, endpoint, Workspace())
        endpoint.undeploy()
    keys = {name: seaweed.env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    nowhere(everything, {**MARKS, **keys})

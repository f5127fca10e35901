"""The local target passes the suite of all targets, warm and with fresh processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.testing.job_rig import Rig
from kaptain_magics.testing.job_target import JobTargetSuite


@pytest.fixture(scope="module", params=["warm", "fresh"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    folder = tmp_path_factory.mktemp("local")
    (folder / "runs").mkdir()
    warm = "true" if request.param == "warm" else "false"
    return Rig(
        name="local",
        config=TargetConfig(home=folder, cache=folder / "cache", settings={"warm": warm}),
        folder=folder / "runs",
        uploads=Path(folder / "storage").as_uri(),
    )


class TestLocalJobs(JobTargetSuite):
    """Processes of this machine."""

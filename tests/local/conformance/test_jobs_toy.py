"""The toy target, one file and one entry point, passes the suite of all targets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.testing.job_rig import Rig
from kaptain_magics.testing.job_target import JobTargetSuite
from tests.distributions import install

ENTRY_POINT = "[kaptain_magics.targets]\ntoy = toy_target:ToyTarget\n"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "runs").mkdir()
    module = Path(__file__).parents[1] / "targets" / "toy_target.py"
    with pytest.MonkeyPatch.context() as patch:
        install(module, ENTRY_POINT, folder / "site", patch)
        yield Rig(
            name="toy",
            config=TargetConfig(home=folder, cache=folder / "cache"),
            folder=folder / "runs",
            uploads=(folder / "storage").as_uri(),
        )
    sys.modules.pop("toy_target", None)


class TestToyJobs(JobTargetSuite):
    """Processes that a target of another distribution starts."""

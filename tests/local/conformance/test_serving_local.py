"""The local target passes the suite of all serving targets."""

from __future__ import annotations

import pytest

from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.local.local_serving import LocalServing
from kaptain_magics.testing.serving_rig import ServingRig
from kaptain_magics.testing.serving_target import ServingTargetSuite


@pytest.fixture(scope="module")
def serving_rig(tmp_path_factory: pytest.TempPathFactory) -> ServingRig:
    folder = tmp_path_factory.mktemp("serving")
    config = TargetConfig(home=folder / "home", cache=folder / "cache")
    return ServingRig(open=lambda: LocalServing(config), folder=folder)


class TestLocalServing(ServingTargetSuite):
    """Server processes of this machine."""

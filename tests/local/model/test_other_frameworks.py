"""A framework of another distribution: trained, saved, served and asked, found by its entry point."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Capture
from kaptain_magics.errors import FrameworkError
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from tests.distributions import install

ENTRY_POINTS = "[kaptain_magics.frameworks]\ntoyboost = toyboost\n"
SCRIPT = "from toyboost import Booster\nbooster = Booster(40.0)\n"


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Path(__file__).parents[1] / "serving" / "toyboost.py"
    install(module, ENTRY_POINTS, tmp_path / "site", monkeypatch)
    monkeypatch.delitem(sys.modules, "toyboost", raising=False)


@pytest.mark.usefixtures("_installed")
def test_it_goes_the_whole_way(home: Path) -> None:
    workspace = Workspace()
    model = workspace.model("dev/toy")
    run = model.plan_training(TrainingRequest(script=capture(SCRIPT), capture=Capture(model="booster"))).start()
    run.wait(60)
    run.raise_for_failure()
    assert run.framework == "toyboost"
    deployment = model.plan_deployment().start()
    deployment.wait(60)
    deployment.raise_for_failure()
    try:
        np.testing.assert_array_equal(deployment.endpoint.predict(np.array([[2.0], [3.0]])), [42.0, 43.0])
    finally:
        deployment.endpoint.undeploy()


@pytest.mark.usefixtures("_installed")
def test_it_has_a_name_like_ours() -> None:
    assert ModelFramework.of("toyboost") == "toyboost"
    assert "toyboost" in ModelFramework.names()


def test_without_its_distribution_the_name_is_unknown_and_a_record_of_it_readable() -> None:
    with pytest.raises(FrameworkError, match="unknown framework 'toyboost'"):
        ModelFramework.of("toyboost")
    assert ModelFramework("toyboost").value == "toyboost"
    with pytest.raises(ValueError, match="is not a valid ModelFramework"):
        ModelFramework("no name")

"""Options that a target would ignore are refused: the target says what it has."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.specs import ClusterOptions
from kaptain_magics.errors import TargetError
from kaptain_magics.magics.options import DEPLOY, TRAIN, TUNE
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from kaptain_magics.targets.base import TargetConfig, open_target
from kaptain_magics.targets.features import Feature, LimitedTarget, check_features


@pytest.mark.parametrize("name", ["local", "docker", "kubernetes"])
def test_a_target_says_what_it_has(tmp_path: Path, name: str) -> None:
    target = open_target(name, TargetConfig(home=tmp_path, cache=tmp_path))
    assert isinstance(target, LimitedTarget)
    for feature in Feature:
        if feature in target.features:
            check_features(target, {"--x": feature})
            continue
        with pytest.raises(TargetError, match=f"--x: the {name} target has no {feature}") as raised:
            check_features(target, {"--x": feature})
        assert raised.value.hint


def test_a_target_that_does_not_say_is_given_every_option() -> None:
    class Silent:
        name = "silent"

    check_features(Silent(), {"--x": Feature.CLUSTER})


def test_options_of_clusters_are_said_to_be_ignored_elsewhere(home: Path) -> None:
    cluster = ClusterOptions(ttl_seconds_after_finished=60, force_cleanup=True)
    request = TrainingRequest(script=capture("x = 1"), cluster=cluster)
    said = "the local target has no cluster: ttl_seconds_after_finished, force_cleanup ignored"
    assert said in Workspace().model("dev/a").plan_training(request).render()
    plain = msgspec.structs.replace(request, cluster=ClusterOptions())
    assert "ignored" not in Workspace().model("dev/a").plan_training(plain).render()


def test_options_name_features_that_there_are() -> None:
    needed = {option.needs for command in (TRAIN, TUNE, DEPLOY) for option in command.options if option.needs}
    assert needed == set(Feature)

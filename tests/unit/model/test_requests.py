"""What is asked of a model: what a study takes over, how options are spelled, and what a repr shows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.specs import EndpointOptions, EndpointSpec, ImageSpec, JobOptions, JobSpec
from kaptain_magics.errors import ConfigError
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest, literal_values, variables_of
from kaptain_magics.model.spelling import spelled
from kaptain_magics.model.study_defaults import inherit
from kaptain_magics.script import capture

OPTIONS: dict[str, Any] = {
    "args": ("--epochs", "3"),
    "files": ("/data/rows.csv",),
    "isolated": True,
    "requirements": ("numpy",),
    "resources": Resources.simple(cpu="2", gpus=1),
    "workers": 4,
    "timeout": 60.0,
    "capture": Capture(model="clf", metrics={"accuracy": "score"}, send=("rows",)),
    "image": ImageSpec(base_image="python:3.11", image_name="demo"),
}
BEFORE = JobSpec(
    name="demo-job-1",
    run_id="1",
    model_id="demo",
    script=capture("clf = score = 1\n"),
    framework=ModelFramework.SKLEARN,
    env={"SHADE": "dark"},
    env_names=("DEMO_NAME",),
    **OPTIONS,
)


def test_every_option_of_a_job_is_looked_at_here() -> None:
    assert {*OPTIONS, "cluster"} == set(JobOptions.__struct_fields__)
    assert set(JobOptions.__struct_fields__) < set(JobSpec.__struct_fields__)
    assert set(JobOptions.__struct_fields__) < set(TrainingRequest.__struct_fields__)
    assert set(EndpointOptions.__struct_fields__) < set(EndpointSpec.__struct_fields__)
    assert set(EndpointOptions.__struct_fields__) < set(DeploymentRequest.__struct_fields__)


def test_a_study_takes_over_what_it_does_not_name() -> None:
    full, (note,) = inherit(TrainingRequest(), BEFORE)
    assert full.script == BEFORE.script
    assert full.framework is ModelFramework.SKLEARN
    assert full.env == {"SHADE": "dark", "DEMO_NAME": None}
    own = {"workers": 1, "timeout": None}  # they fit one run, not the script
    assert {name: getattr(full, name) for name in OPTIONS} == {**OPTIONS, **own}
    assert note.text == (
        'taken over from the last train run, demo-job-1: --args "--epochs 3", --files rows.csv, '
        "--isolated, --requirements (lines: 1), --cpu 2, --gpus 1, --env SHADE, --env DEMO_NAME, "
        "--model clf, --metric accuracy=score, --send rows, --base-image python:3.11, --image-name demo"
    )
    assert "dark" not in note.text


@pytest.mark.parametrize(
    ("name", "value"),
    [("args", ("x",)), ("requirements", ("torch",)), ("resources", Resources.simple(cpu="1")), ("env", {"A": "1"})],
)
def test_what_a_study_names_stays(name: str, value: object) -> None:
    full, (note,) = inherit(TrainingRequest(**{name: value}), BEFORE)
    assert getattr(full, name) == value
    assert f"--{'cpu' if name == 'resources' else name}" not in note.text


def test_nothing_is_noted_where_nothing_is_taken_over() -> None:
    plain = msgspec.structs.replace(BEFORE, env={}, env_names=(), **{k: getattr(JobOptions(), k) for k in OPTIONS})
    assert inherit(TrainingRequest(), plain)[1] == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("min_replicas", 2, ["--min-replicas 2"]),
        ("token", True, ["--token"]),
        ("protocol", "v1", ["--protocol v1"]),
        ("resources", Resources(memory_request="1G"), ["--memory 1G"]),
        ("image", ImageSpec(image_name="demo"), ["--image-name demo"]),
    ],
)
def test_options_are_spelled_as_a_line_has_them(name: str, value: object, words: list[str]) -> None:
    assert spelled(name, value) == words


def test_variables_go_back_and_forth_and_are_never_shown() -> None:
    request = TrainingRequest(env=variables_of(BEFORE), sent={"rows": "s3cr3t"})
    assert "dark" not in repr(request)
    assert "s3cr3t" not in repr(request)
    assert literal_values(request.env) == {"SHADE": "dark"}
    with pytest.raises(ConfigError, match="API_TOKEN looks like a secret"):
        literal_values({"API_TOKEN": "abcdef123456"})

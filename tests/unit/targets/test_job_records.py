"""What a process needs to follow a job of another: it is kept with the run, and older versions wrote it otherwise."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.domains import Categorical, Double, Integer
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Capture, Script
from kaptain_magics.core.specs import JobSpec, StudySpec
from kaptain_magics.errors import StateError
from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.docker.container_record import ContainerRecord
from kaptain_magics.targets.local.job_files import LocalJobRecord
from kaptain_magics.targets.study_runners import StudyRef

ASSETS = Path(__file__).parents[2] / "assets"
JOB = JobSpec(
    name="dev-old-job-0107cbaa",
    run_id="20261125-104407-9b6aa2",
    model_id="dev/old",
    script=Script(name="train.py", source=""),
    framework=ModelFramework.SKLEARN,
    folder="/tmp/runs/20261125-104407-9b6aa2",
    upload_uri="file:///tmp/models/dev/old/trained/1",
    metric_names=("accuracy", "val/loss"),
    capture=Capture(fetch=("rows",)),
    timeout=900.0,
)
WHOLE = msgspec.structs.replace(ContainerRecord.of_job(JOB), settings={"c": 0.5})


def written(ref: JobRef) -> JobRef:
    return msgspec.json.decode(msgspec.json.encode(ref), type=type(ref))


@pytest.mark.parametrize("record", [WHOLE, ContainerRecord(folder="/tmp/x")])
def test_a_reference_holds_the_record_of_a_container(record: ContainerRecord) -> None:
    ref = written(JobRef.of("docker", "j", record))
    assert (ref.target, ref.name, ContainerRecord.of_ref(ref)) == ("docker", "j", record)


def test_a_container_of_an_older_version_is_followed() -> None:
    ref = msgspec.json.decode((ASSETS / "docker-0.1.0" / "job.json").read_bytes(), type=JobRef)
    assert ContainerRecord.of_ref(ref) == WHOLE
    plain = JobRef(target="docker", name="j", data={"folder": "/tmp/x", "metrics": "", "upload": ""})
    assert ContainerRecord.of_ref(plain) == ContainerRecord(folder="/tmp/x")


def test_a_process_of_an_older_version_is_followed() -> None:
    (path, *_) = sorted((ASSETS / "state-0.1.0" / "runs").glob("*/job.json"))
    ref = msgspec.json.decode(path.read_bytes(), type=JobRef)
    assert LocalJobRecord.of_ref(ref).folder.endswith(path.parent.name)
    assert LocalJobRecord.of_ref(written(JobRef.of("local", "j", LocalJobRecord(folder="/f")))).folder == "/f"


def test_a_reference_of_a_study_holds_its_spec() -> None:
    domains = {"c": Double(0.1, 1, log=True), "n": Integer(1, 4), "kind": Categorical(("a", 1, 1.0))}
    spec = StudySpec(name="s", run_id="r", model_id="m", job=JOB, domains=domains, objectives=("accuracy",))
    assert written(StudyRef.of("kubernetes", "s", spec)).read(StudySpec) == spec


def test_a_reference_of_another_form_says_so() -> None:
    with pytest.raises(StateError, match=r"the reference of job j cannot be read: .*`folder`") as raised:
        ContainerRecord.of_ref(JobRef(target="docker", name="j"))
    assert "the version of target docker" in raised.value.hint

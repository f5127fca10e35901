"""What is kept with a job on the cluster is read again, also as an older version has written it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.kubernetes.jobs.job_record import JobRecord
from kaptain_magics.targets.kubernetes.manifests.labels import Part, part_of

ASSETS = Path(__file__).parents[3] / "assets" / "cluster-0.1.0"
WHOLE = JobRecord(
    kind="Job",
    container="sklearn",
    namespace="demo",
    run="20251123-101500-a1b2c3",
    folder="/home/jane/.kaptain/runs/20251123-101500-a1b2c3",
    secrets=("train-d3adabf95994484a", "train-registry-068ad4ec6b93f037"),
    payload="train-script-0011223344556677",
    metrics=("accuracy", "loss"),
    settings={"gamma": 0.001},
    work_uri="s3://kaptain/models/dev/mnist/trained/1.work.tar.gz",
    fetched_uri="s3://kaptain/models/dev/mnist/trained/1.fetched.pkl",
    upload_uri="s3://kaptain/models/dev/mnist/trained/1",
    timeout=900.0,
    ttl_seconds=3600,
    trial=True,
    force_cleanup=True,
)


def workload(annotations: dict[str, str]) -> dict[str, Any]:
    labels = {"kaptain-magics/run": WHOLE.run}
    return {"metadata": {"name": "j", "namespace": "demo", "labels": labels, "annotations": annotations}}


@pytest.mark.parametrize("record", [WHOLE, JobRecord(), JobRecord(folder="/tmp/x")])
def test_a_reference_holds_the_record(record: JobRecord) -> None:
    ref = msgspec.json.decode(msgspec.json.encode(record.ref("j")), type=JobRef)
    assert (ref.target, ref.name) == ("kubernetes", "j")
    assert JobRecord.of_ref(ref) == record


def test_a_job_holds_the_record() -> None:
    made = workload({})
    assert JobRecord.of_workload(made) is None
    WHOLE.annotate(made)
    assert JobRecord.of_workload(made) == WHOLE


def test_a_job_of_an_older_version_is_followed() -> None:
    made = workload({"kaptain-magics/ref": (ASSETS / "annotation.json").read_text()})
    assert JobRecord.of_workload(made) == msgspec.structs.replace(WHOLE, folder="")


def test_a_run_of_an_older_version_is_followed() -> None:
    ref = msgspec.json.decode((ASSETS / "job.json").read_bytes(), type=JobRef)
    assert JobRecord.of_ref(ref) == WHOLE
    waiting = json.loads((ASSETS / "job.json").read_text()) | {"data": {"folder": WHOLE.folder}}
    assert JobRecord.of_ref(msgspec.convert(waiting, JobRef)) == JobRecord(folder=WHOLE.folder)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train-script-0011223344556677", Part.PAYLOAD),
        ("tune-script-0011223344556677", Part.PAYLOAD),
        ("dev-mnist-server-0a1b2c3d", Part.PAYLOAD),
        ("train-registry-0011223344556677", Part.REGISTRY),
        ("dev-mnist-registry", Part.REGISTRY),
        ("train-0011223344556677", Part.STORAGE),
        ("dev-mnist-secret", Part.STORAGE),
    ],
)
def test_secrets_of_an_older_version_have_their_part_in_their_name(name: str, part: Part) -> None:
    assert part_of({"metadata": {"name": name}}) is part
    labelled = {"name": "any", "labels": {"kaptain-magics/part": part.value}}
    assert part_of({"metadata": labelled}) is part

"""Kinds of jobs: which of a job's containers and pods count."""

from __future__ import annotations

from collections.abc import Mapping

from kaptain_magics.core.specs import JobSpec
from kaptain_magics.targets.kubernetes.api.kinds import FIRST_REPLICAS, REPLICA_LABEL, Manifest

JOB_KINDS = ("Job", "PyTorchJob", "TFJob", "TrainJob")
_CONTAINERS: Mapping[str, str] = {"PyTorchJob": "pytorch", "TFJob": "tensorflow", "TrainJob": "node"}
_INDEX = "batch.kubernetes.io/job-completion-index"  # annotation of an Indexed Job's pods


def main_container(job: JobSpec, kind: str) -> str:
    """Return the name of the container that runs the script in a kind of job."""
    return _CONTAINERS.get(kind, job.framework.value)


def is_first_worker(kind: str, pod: Manifest) -> bool:
    """Whether a pod of a kind of job is the one whose log and exit code count."""
    metadata = pod["metadata"]
    if kind in FIRST_REPLICAS:
        return str((metadata.get("labels") or {}).get(REPLICA_LABEL)).lower() == FIRST_REPLICAS[kind]
    return str((metadata.get("annotations") or {}).get(_INDEX, "0")) == "0"

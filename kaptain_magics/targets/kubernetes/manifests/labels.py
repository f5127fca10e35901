"""Names and labels: how everything that was made on a cluster is found again, by its owner, model and run."""

from __future__ import annotations

import getpass
import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from kaptain_magics.core.names import new_hex, sanitize
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.files import locked, write_whole
from kaptain_magics.targets.kubernetes.api.kinds import Manifest

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "kaptain"
OWNER = "kaptain-magics/owner"
MODEL = "kaptain-magics/model"
RUN = "kaptain-magics/run"
JOB = "kaptain-magics/job"
STUDY = "kaptain-magics/study"
ENDPOINT = "kaptain-magics/endpoint"
REVISION = "kaptain-magics/revision"
ROLE = "kaptain-magics/role"  # of an endpoint's pods: stable or canary

PART = "kaptain-magics/part"  # of a secret

MODEL_ID = "kaptain-magics/model-id"  # annotation: the model's id as it was written
EVERYTHING = f"{MANAGED_BY}={MANAGER}"


class Part(StrEnum):
    """What a secret is for."""

    PAYLOAD = "payload"  # script or server with its files, the values of variables
    STORAGE = "storage"  # access to the object store
    REGISTRY = "registry"  # to pull the image with


def owner_name(home: Path, setting: str = "") -> str:
    """Return the owner's label value: the user and a name of the state folder, which is drawn once and kept in it.

    Two state folders never clean up after each other, even where users and paths are the same.

    Args:
        home: The state folder.
        setting: A name to use instead.
    """
    if setting:
        return sanitize(setting)
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = "unknown"
    note = home / "cluster-owner"
    try:
        drawn = note.read_text("utf-8").strip()
    except FileNotFoundError:
        with locked(home / ".cluster-owner.lock"):
            if not note.exists():
                write_whole(note, new_hex(8).encode())
        drawn = note.read_text("utf-8").strip()
    return f"{sanitize(user, 50)}-{drawn}"


def value(text: str) -> str:
    """Return a text as a label's value: what may not stand there becomes a dash."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:63].strip("-_.")


def short(run_id: str) -> str:
    """Return eight digits that stand for a run in the names of what it makes."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:8]


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """What an object was made for; becomes its labels, by which it is found and cleaned up.

    Attributes:
        owner: The owner's label value.
        model_id: The model.
        run_id: The run.
        job: The job that it belongs to.
        study: The study that it belongs to.
        endpoint: The endpoint that it belongs to.
        revision: The model's revision that an endpoint's object serves.
        part: What a secret is for.
    """

    owner: str
    model_id: str
    run_id: str
    job: str = ""
    study: str = ""
    endpoint: str = ""
    revision: str = ""
    part: str = ""

    @classmethod
    def of_job(cls, owner: str, job: JobSpec) -> Tags:
        """Return the tags of what a job is made of."""
        return cls(owner=owner, model_id=job.model_id, run_id=job.run_id, job=job.name)

    @classmethod
    def of_study(cls, owner: str, study: StudySpec) -> Tags:
        """Return the tags of what a study is made of."""
        return cls(owner=owner, model_id=study.model_id, run_id=study.run_id, study=study.name)

    @classmethod
    def of_endpoint(cls, owner: str, endpoint: EndpointSpec) -> Tags:
        """Return the tags of what an endpoint is made of."""
        named = {"endpoint": endpoint.name, "revision": endpoint.revision}
        return cls(owner=owner, model_id=endpoint.model_id, run_id=endpoint.run_id, **named)

    def for_part(self, part: Part) -> Tags:
        """Return the tags of a secret of these."""
        return msgspec.structs.replace(self, part=part.value)

    @property
    def labels(self) -> dict[str, str]:
        """The labels, with characters that labels cannot have replaced."""
        further = {JOB: self.job, STUDY: self.study, ENDPOINT: self.endpoint, PART: self.part}
        named = {name: value(text) for name, text in further.items() if text}
        if self.endpoint:
            named[REVISION] = value(self.revision)
        return {MANAGED_BY: MANAGER, OWNER: self.owner, MODEL: sanitize(self.model_id), RUN: value(self.run_id)} | named

    def metadata(self, namespace: str, name: str) -> Manifest:
        """Return the metadata of an object, which has the model's id unchanged in an annotation."""
        annotations = {MODEL_ID: self.model_id}
        return {"name": name, "namespace": namespace, "labels": self.labels, "annotations": annotations}


def part_of(secret: Manifest) -> Part:
    """Return what a secret of ours is for."""
    metadata = secret["metadata"]
    named = (metadata.get("labels") or {}).get(PART)
    if named:
        return Part(named)
    if re.search(r"^(train|tune)-script-|-server-[0-9a-f]{8}$", metadata["name"]):  # names before there was the label
        return Part.PAYLOAD
    return Part.REGISTRY if "-registry" in metadata["name"] else Part.STORAGE


def selector(chosen: Mapping[str, str]) -> str:
    """Return a label selector that asks for all of ``wanted``."""
    return ",".join(f"{name}={text}" for name, text in chosen.items())

"""Names and labels: how everything that was made on a cluster is found again, by its owner, model and run."""

from __future__ import annotations

import getpass
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from kaptain_magics.core.names import new_hex, sanitize
from kaptain_magics.files import locked, write_whole

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

MODEL_ID = "kaptain-magics/model-id"  # annotation: the model's id as it was written
EVERYTHING = f"{MANAGED_BY}={MANAGER}"


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


def labels(owner: str, model_id: str, run_id: str, **more: str) -> dict[str, str]:
    """Return the labels of an object.

    Args:
        owner: The owner's label value.
        model_id: The model's id.
        run_id: The run's id.
        **more: Further labels by the lower-case name of this module's constant: ``job="mnist-job-1"``.
    """
    made = {MANAGED_BY: MANAGER, OWNER: owner, MODEL: sanitize(model_id), RUN: value(run_id)}
    return made | {f"kaptain-magics/{name}": value(text) for name, text in more.items()}


def selector(wanted: Mapping[str, str]) -> str:
    """Return a label selector that asks for all of ``wanted``."""
    return ",".join(f"{name}={text}" for name, text in wanted.items())


def new_secret_name(phase: str) -> str:
    """Return the name of a job's secret in the contract's form: ``train-d3adabf95994484a``."""
    return f"{phase}-{new_hex(16)}"

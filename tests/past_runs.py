"""Runs that have ended, written down without running anything."""

from __future__ import annotations

import time
from pathlib import Path

from kaptain_magics.core.events import LogWritten, MetricReported, MetricSummary, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.script import capture
from kaptain_magics.state import Registry, Revision, RunRecord, RunStore
from kaptain_magics.storage import open_store


def plant(
    home: Path, number: int, source: str, metrics: dict[str, float], model_id: str = "dev/mnist", **given: object
) -> str:
    """Write an ended training run down; returns its id."""
    run_id = f"2026010{number}-000000-abcdef"
    job = JobSpec(
        name=f"mnist-job-{number}",
        run_id=run_id,
        model_id=model_id,
        script=capture(source),
        framework=ModelFramework.SKLEARN,
        parameters=given,  # type: ignore[arg-type]
    )
    record = RunRecord(
        run_id=run_id,
        kind=RunKind.TRAIN,
        name=job.name,
        model_id=model_id,
        target="local",
        created=time.time() - 100 + number,
        job=job,
    )
    folder = RunStore(home).create(record)
    for name, value in metrics.items():
        folder.append(LogWritten(text="line\n"))
        folder.append(MetricReported(name=name, value=value))
    folder.append(StateChanged(state=RunState.SUCCEEDED if metrics else RunState.FAILED, reason="" if metrics else "x"))
    folder.lock.release()
    return run_id


def save(home: Path, number: int, run_id: str, model_id: str = "dev/mnist", **metrics: float) -> Revision:
    """Write a revision down that a run has saved, with a file in the object store."""
    base = (home / "storage/models").as_uri()
    uri, source = f"{base}/{model_id}/trained/{number:032x}", home / "source"
    source.mkdir(exist_ok=True)
    (source / "model.bin").write_bytes(b"x" * 1000)
    artifact = open_store(base, {}).put(source, uri)
    revision = Revision(
        revision=f"{number:032x}",
        stage="trained",
        uri=uri,
        run_id=run_id,
        created=time.time(),
        files=artifact.files,
        size=1000,
        metrics={name: MetricSummary.of(value) for name, value in metrics.items()},
    )
    Registry(home).add_revision(model_id, revision)
    return revision

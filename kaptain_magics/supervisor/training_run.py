"""Supervises one training job: follows its events, and keeps its model as a revision of the registry."""

from __future__ import annotations

import contextlib
import time

import msgspec

from kaptain_magics.core.events import ArtifactSaved, MetricReported, MetricSummary, StateChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, StateError
from kaptain_magics.files import write_whole
from kaptain_magics.state import Revision
from kaptain_magics.supervisor.run_context import RunContext
from kaptain_magics.supervisor.tracked_run import with_tracker


def run(context: RunContext) -> StateChanged:
    """Run the job to its end, note its model as a revision, and return the run's last state."""
    job = context.record.job
    assert job is not None
    context.emit_notes()
    context.note(f'Submitting a new training job "{job.name}".')
    ref = context.target.submit(with_tracker(job))
    try:
        write_whole(context.folder.path / "job.json", msgspec.json.encode(ref))
    except StateError:
        context.target.stop(ref)
        raise
    context.note("Waiting for the training job to complete...")
    metrics: dict[str, MetricSummary] = {}
    saved: ArtifactSaved | None = None
    last = StateChanged(state=RunState.FAILED, reason="the target ended without reporting a final state")
    with context.ends_by(lambda: context.target.stop(ref)):
        for event in context.target.follow(ref):
            if isinstance(event, StateChanged):
                if event.state.terminal:
                    last = event
                    break
                if event.state is RunState.RUNNING:
                    context.note(f"Master Node Training Model started in {context.record.target} job: {job.name}.")
            elif isinstance(event, MetricReported):
                metrics[event.name] = MetricSummary.of(event.value, metrics.get(event.name))
            elif isinstance(event, ArtifactSaved):
                saved = event
            context.emit(event)
    if last.state is RunState.SUCCEEDED:
        if saved is not None:
            _register(context, saved, metrics)
        context.note("Model training is completed.")
    else:
        from kaptain_magics.script.missing_files import hint_for_missing

        last = msgspec.structs.replace(last, hint=hint_for_missing(last.reason, last.hint, job))
        with contextlib.suppress(KaptainError):  # the job's own reason is the one to report
            context.store.delete(job.upload_uri)
    return last


def _register(context: RunContext, saved: ArtifactSaved, metrics: dict[str, MetricSummary]) -> None:
    job = context.record.job
    assert job is not None
    context.registry.add_revision(
        job.model_id,
        Revision(
            revision=saved.uri.rstrip("/").rpartition("/")[2],
            stage="trained",
            uri=saved.uri,
            run_id=context.record.run_id,
            created=time.time(),
            framework=saved.framework or job.framework.value,
            format=saved.format,
            files=saved.files,
            size=saved.size,
            hyperparameters=job.parameters,
            metrics=metrics,
        ),
    )

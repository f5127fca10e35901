"""Supervises one deployment: artifacts into uri, the target's work, the endpoint written down."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

from kaptain_magics.core.events import EndpointChanged, Event, StateChanged
from kaptain_magics.core.specs import EndpointSpec, JobSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import KaptainError, StateError, TargetError
from kaptain_magics.serving.client.snippets import curl, opened_url
from kaptain_magics.state import EndpointRecord, RunFolder
from kaptain_magics.supervisor.example_requests import example_request, fitted_on
from kaptain_magics.supervisor.run_context import RunContext
from kaptain_magics.supervisor.serving_files import place_serving_files
from kaptain_magics.targets.base import Cancellable, ServesInPlace, ServingTarget


def run(context: RunContext) -> StateChanged:
    """Deploy the endpoint and return the run's last state; after a failure nothing new is left behind."""
    requested = context.record.endpoint
    assert requested is not None
    target = context.target
    if not isinstance(target, ServingTarget):
        raise TargetError(f"target {target.name} does not serve models", "deploy on another one with --on")
    uri = f"{context.settings.models_uri}/{requested.model_id}/deploy/{requested.revision}"
    context.emit_notes()
    context.note(f"Building deployment artifacts and uploading to {uri}")
    context.store.copy(requested.artifact_uri, uri)
    spec = place_serving_files(context.store, msgspec.structs.replace(requested, artifact_uri=uri))
    context.note(f"Deploying model from {uri}")
    last, serves = StateChanged(state=RunState.FAILED, reason="the target ended without reporting a final state"), False
    try:
        with context.ends_by(target.cancel) if isinstance(target, Cancellable) else contextlib.nullcontext():
            for event in _events(context, target, spec):
                if isinstance(event, StateChanged) and event.state.terminal:
                    last = event
                    serves = last.state is RunState.SUCCEEDED
                    if serves:  # while no other deployment can follow this one
                        _remember(context, target, spec)
                    break
                context.emit(_with_line(context, target, spec, event))
    except KaptainError as error:
        last = StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)
    if not serves:
        with contextlib.suppress(KaptainError):
            context.store.delete(uri)
    return last


def _with_line(context: RunContext, target: ServingTarget, spec: EndpointSpec, event: Event) -> Event:
    """Return an endpoint's event with the line that asks it, where a row of the training data is known."""
    if not isinstance(event, EndpointChanged) or event.state is not EndpointState.READY:
        return event
    url = event.url or (opened_url(event.cluster_url) if event.open_with else "")
    with contextlib.suppress(KaptainError):
        fitted = fitted_on(context.store, spec)
        if url and fitted is not None:
            headers = target.endpoint(spec.name).headers if event.needs_token else {}
            line = curl(url, *example_request(context.registry, spec.name, url, headers, fitted))
            return msgspec.structs.replace(event, curl=line)
    return event


def _events(context: RunContext, target: ServingTarget, spec: EndpointSpec) -> Iterator[Event]:
    if isinstance(target, ServesInPlace):
        job = _trainer(context, spec)
        if job is not None:
            target.serve_like(job)
        spec = msgspec.structs.replace(spec, artifact_uri=_local_folder(context, spec).as_uri())
    return target.deploy(spec)


def _trainer(context: RunContext, spec: EndpointSpec) -> JobSpec | None:
    """Return the job that made the revision, if its run is still there."""
    requested = context.record.endpoint
    assert requested is not None
    with contextlib.suppress(StateError):
        for revision in context.registry.model(spec.model_id).revisions:
            if revision.uri == requested.artifact_uri:
                record = RunFolder(context.folder.path.parent / revision.run_id).record
                return record.job or (record.study.job if record.study is not None else None)
    return None


def _local_folder(context: RunContext, spec: EndpointSpec) -> Path:
    """Return the model's folder on this machine; an S3 object is fetched into the endpoint's own cache first."""
    parts = urlsplit(spec.artifact_uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    folder = Path(context.settings.cache) / "models" / spec.revision
    context.store.get(spec.artifact_uri, folder)
    return folder


def _sources(context: RunContext, spec: EndpointSpec) -> dict[str, str]:
    """Return where the models were copied from: this one's, and beside a canary those of the revisions before."""
    requested = context.record.endpoint
    assert requested is not None
    before: dict[str, str] = {}
    if spec.canary_percent is not None:
        with contextlib.suppress(StateError):
            before = context.registry.endpoint(spec.name).sources
    return {**before, spec.revision: requested.artifact_uri}


def _remember(context: RunContext, target: ServingTarget, spec: EndpointSpec) -> None:
    context.registry.save_endpoint(
        EndpointRecord(
            name=spec.name,
            target=context.record.target,
            model_id=spec.model_id,
            run_id=context.record.run_id,
            created=time.time(),
            spec=spec,
            sources=_sources(context, spec),
        )
    )
    status = target.endpoint(spec.name)
    address = status.cluster_url or status.url
    context.note(f"Model {spec.model_id} deployed successfully. Cluster URL: {address}")
    if status.headers:
        hint = "endpoint.token holds it, and endpoint.curl() is a line that reads it from its file"
        context.note(f"Requests need a token: {hint}.")

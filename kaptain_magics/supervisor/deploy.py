"""Supervises one deployment: artifacts into place, the target's work, the endpoint written down."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

from kaptain_magics.core.events import Event, StateChanged
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.state import EndpointRecord
from kaptain_magics.supervisor.context import Context
from kaptain_magics.targets.base import ServingTarget


def run(context: Context) -> StateChanged:
    """Deploy the endpoint and return the run's last state; after a failure nothing new is left behind."""
    asked = context.record.endpoint
    assert asked is not None
    target = context.target
    if not isinstance(target, ServingTarget):
        raise TargetError(f"target {target.name} does not serve models", "deploy on another one with --on")
    place = f"{context.settings.models_uri}/{asked.model_id}/deploy/{asked.revision}"
    context.note(f"Building deployment artifacts and uploading to {place}")
    context.store.copy(asked.artifact_uri, place)
    spec = msgspec.structs.replace(asked, artifact_uri=place)
    context.note(f"Deploying model from {place}")
    last = StateChanged(state=RunState.FAILED, reason="the target ended without a last word")
    try:
        for event in _events(context, target, spec):
            if isinstance(event, StateChanged) and event.state.terminal:
                last = event
                break
            context.emit(event)
            if context.stopping.is_set():
                last = StateChanged(state=RunState.STOPPED, reason="the deployment was stopped")
                break
    except KaptainError as error:
        last = StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)
    if last.state is RunState.SUCCEEDED:
        _remember(context, target, spec)
    else:
        with contextlib.suppress(KaptainError):
            context.store.delete(place)
    return last


def _events(context: Context, target: ServingTarget, spec: EndpointSpec) -> Iterator[Event]:
    if context.record.target == "local":
        spec = msgspec.structs.replace(spec, artifact_uri=_local_folder(context, spec).as_uri())
    return target.deploy(spec)


def _local_folder(context: Context, spec: EndpointSpec) -> Path:
    """Return the model's folder on this machine; an S3 object is fetched into the endpoint's own cache first."""
    parts = urlsplit(spec.artifact_uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    folder = Path(context.settings.cache) / "models" / spec.revision
    context.store.get(spec.artifact_uri, folder)
    return folder


def _remember(context: Context, target: ServingTarget, spec: EndpointSpec) -> None:
    context.registry.save_endpoint(
        EndpointRecord(
            name=spec.name,
            target=context.record.target,
            model_id=spec.model_id,
            run_id=context.record.run_id,
            created=time.time(),
            spec=spec,
            settings=context.record.settings,
        )
    )
    status = target.endpoint(spec.name)
    address = status.cluster_url or status.url
    context.note(f"Model {spec.model_id} deployed successfully. Cluster URL: {address}")

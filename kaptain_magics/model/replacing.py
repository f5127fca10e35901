"""The endpoint that a deployment replaces or gets a canary: what is kept of it, never where it listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from kaptain_magics.core.events import Noted
from kaptain_magics.core.names import endpoint_name
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointOptions, EndpointSpec, ImageSpec
from kaptain_magics.core.states import EndpointState
from kaptain_magics.errors import KaptainError, NotFoundError, ServingError
from kaptain_magics.model.requests import variables_of
from kaptain_magics.model.revisions import list_revisions, training_requirements
from kaptain_magics.model.spelling import spelled
from kaptain_magics.targets.base import ListensHere

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

_LOOPBACK = "127.0.0.1"
# Not kept: where it listens, what only fits one model, and how one deployment is carried out.
_OF_THE_LINE = {"host", "port", "serving_config", "canary_percent", "replace", "timeout", "transformer", "cluster"}
_RESOURCES = (("cpu_request", "cpu_limit"), ("memory_request", "memory_limit"), ("gpu_limit",))  # fields of an option


def running_endpoint(context: Context, model_id: str) -> EndpointSpec | None:
    """Return what a model's endpoint was deployed with last; ``None`` where it has none, or it was taken down."""
    name = endpoint_name(model_id)
    return next((e.spec for e in context.registry.endpoints() if e.name == name), None)


def blocks_deployment(context: Context, name: str) -> bool:
    """Whether an endpoint must be replaced before one of its name can be deployed; one that failed need not be."""
    record = next((e for e in context.registry.endpoints() if e.name == name), None)
    if record is None or record.target != context.settings.target:
        return record is not None
    with suppress(KaptainError):
        return context.serving(record.target).endpoint(name).state is not EndpointState.FAILED
    return True


def listening_address(name: str, stated: str, running: EndpointSpec | None, canary: bool) -> str:
    """Return the address that a deployment listens on.

    Args:
        name: The endpoint's name.
        stated: The address that was named; empty for none.
        running: The endpoint that is there.
        canary: Whether the revision gets requests through that endpoint, and so has no address of its own.

    Raises:
        ServingError: The endpoint listens elsewhere, so that its address would change without a word.
    """
    if running is None or (stated and not canary):
        return stated or _LOOPBACK
    if canary:
        if stated and stated != running.host:
            hint = "leave --host out, or replace the endpoint"
            raise ServingError(f"a canary answers where {name} listens: {running.host}, not {stated}", hint)
        return running.host
    if running.host != _LOOPBACK:
        raise ServingError(
            f"{name} listens on {running.host}, and no address is named for its replacement",
            f"--host {running.host} (host=...) keeps listening there, --host {_LOOPBACK} closes it to other machines",
        )
    return _LOOPBACK


def check_token(context: Context, token: bool) -> None:
    """Refuse a token where endpoints have none.

    Raises:
        ServingError: One was requested.
    """
    if token and not isinstance(context.target(), ListensHere):
        hint = "leave --token out: who may reach them is up to the cluster"
        raise ServingError(f"endpoints of target {context.settings.target} have no tokens", hint)


def keep_options(context: Context, model_id: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Noted, ...]]:
    """Return options with those of the running endpoint where none are given, and the notes that say which.

    Kept are protocol, resources, environment, processes, replicas, and an image and requirements that were named.
    The address, the signature and other options of the model server belong to the line that names them.

    Args:
        context: Where the endpoint is known.
        model_id: The model that is to be deployed.
        given: What was named, by the fields of ``DeploymentRequest``.
    """
    running = running_endpoint(context, model_id)
    if running is None or not (given.get("replace") or given.get("canary_percent") is not None):
        return dict(given), ()
    full, kept_options = dict(given), list[str]()
    for name, value in _worth_keeping(context, model_id, running):
        if name == "resources":
            full[name], added = _merged(given.get(name, Resources()), value)
            kept_options += added
        elif name not in given:
            full[name] = value
            kept_options += spelled(name, value)
    notes = [Noted(text=f"kept from the running endpoint: {', '.join(kept_options)}")] if kept_options else []
    dropped = [name for name in running.serving_config if name not in given.get("serving_config", {})]
    if dropped:
        options = ", ".join("--signature" if name == "signature" else f"--serving {name}" for name in dropped)
        text = f"not kept from the running endpoint: {options}"
        notes.append(Noted(text=text, warning=True, hint="name it in this line where the new revision needs it too"))
    return full, tuple(notes)


def _worth_keeping(context: Context, model_id: str, running: EndpointSpec) -> Iterator[tuple[str, Any]]:
    """Yield the options of an endpoint that were named in its line, by the fields of a request."""
    plain = EndpointOptions()
    for name in EndpointOptions.__struct_fields__:
        value = getattr(running, name)
        if name in _OF_THE_LINE or value == getattr(plain, name):
            continue
        if name == "requirements" and value in _trained_with(context, model_id):
            continue
        if name == "image" and value == ImageSpec(base_image=context.settings.base_image):
            continue
        if name == "token" and not isinstance(context.target(), ListensHere):
            continue
        yield name, value
    if variables := variables_of(running):
        yield "env", variables


def _merged(named: Resources, running: Resources) -> tuple[Resources, list[str]]:
    """Return the resources that were named with the running endpoint's for the other options, and those options."""
    changes: dict[str, Any] = {}
    for fields in _RESOURCES:
        if not any(getattr(named, field) for field in fields):
            changes |= {field: getattr(running, field) for field in fields if getattr(running, field)}
    return msgspec.structs.replace(named, **changes), spelled("resources", Resources(**changes))


def _trained_with(context: Context, model_id: str) -> list[tuple[str, ...]]:
    """Return the requirements that the served revisions were trained with, where the endpoint's line named none."""
    try:
        sources = context.registry.endpoint(endpoint_name(model_id)).sources.values()
    except NotFoundError:
        return []
    served = [revision for revision in list_revisions(context, model_id) if revision.uri in sources]
    return [training_requirements(context, revision) for revision in served]

"""What a deployment keeps of the endpoint that it replaces, in so many words; never where it listens."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from kaptain_magics.core.events import Noted
from kaptain_magics.core.names import endpoint_name
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec, ImageSpec
from kaptain_magics.core.states import EndpointState
from kaptain_magics.errors import KaptainError, NotFoundError, ServingError
from kaptain_magics.model import planning
from kaptain_magics.model.choosing import known_revisions
from kaptain_magics.targets.base import ListensHere

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

_HERE = "127.0.0.1"
_NUMBERS = ("workers", "autoscale", "min_replicas", "max_replicas")
_RESOURCES = {
    "cpu": ("cpu_request", "cpu_limit"),
    "memory": ("memory_request", "memory_limit"),
    "gpus": ("gpu_limit",),
}


def running_endpoint(workspace: Context, model_id: str) -> EndpointSpec | None:
    """Return what a model's endpoint was deployed with last; ``None`` where it has none, or it was taken down."""
    name = endpoint_name(model_id)
    return next((e.spec for e in workspace.registry.endpoints() if e.name == name), None)


def in_the_way(workspace: Context, name: str) -> bool:
    """Whether an endpoint that is listed stands in the way of a new one: one that failed does not."""
    record = next((e for e in workspace.registry.endpoints() if e.name == name), None)
    if record is None or record.target != workspace.settings.target:
        return record is not None
    with suppress(KaptainError):
        return workspace.serving(record.target).endpoint(name).state is not EndpointState.FAILED
    return True


def listening_address(name: str, asked: str, running: EndpointSpec | None, canary: bool) -> str:
    """Return the address that a deployment listens on.

    Args:
        name: The endpoint's name.
        asked: The address that was named; empty for none.
        running: The endpoint that is there.
        canary: Whether the revision gets requests through that endpoint, and so has no address of its own.

    Raises:
        ServingError: The endpoint listens elsewhere, so that its address would change without a word.
    """
    if running is None or (asked and not canary):
        return asked or _HERE
    if canary:
        if asked and asked != running.host:
            hint = "leave --host out, or replace the endpoint"
            raise ServingError(f"a canary answers where {name} listens: {running.host}, not {asked}", hint)
        return running.host
    if running.host != _HERE:
        raise ServingError(
            f"{name} listens on {running.host}, and no address is named for its replacement",
            f"--host {running.host} (host=...) goes on listening there, --host {_HERE} closes it to other machines",
        )
    return _HERE


def check_token(workspace: Context, token: bool) -> None:
    """Refuse a token where endpoints have none.

    Raises:
        ServingError: One was asked for.
    """
    if token and not isinstance(workspace.target(), ListensHere):
        hint = "leave --token out: who may reach them is up to the cluster"
        raise ServingError(f"endpoints of target {workspace.settings.target} have no tokens", hint)


def kept(workspace: Context, model_id: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Noted]]:
    """Return options with those of the running endpoint where none are given, and what is to be said of it.

    Kept are protocol, resources, environment, processes, replicas, and an image and requirements that were named.
    The address, the signature and other options of the model server belong to the line that names them.

    Args:
        workspace: Where the endpoint is known.
        model_id: The model that is to be deployed.
        given: What was asked for, by the names of ``plan_deployment``.
    """
    running = running_endpoint(workspace, model_id)
    if running is None or not (given.get("replace") or given.get("canary_percent") is not None):
        return dict(given), []
    full, said = dict(given), []
    plain = EndpointSpec(name="", run_id="", model_id="", revision="", artifact_uri="", framework=running.framework)
    if "protocol" not in given and running.protocol != plain.protocol:
        full["protocol"] = running.protocol
        said.append(f"--protocol {running.protocol}")
    resources = _resources(given.get("resources") or Resources(), running.resources, said)
    if resources != Resources():
        full["resources"] = resources
    for name in _NUMBERS:
        value = getattr(running, name)
        if name not in given and value != getattr(plain, name):
            full[name] = value
            said.append(f"--{name.replace('_', '-')} {value}")
    if not given.get("env") and (variables := planning.variables_of(running)):
        full["env"] = variables
        said += [f"--env {name}" for name in variables]
    if "token" not in given and running.token and isinstance(workspace.target(), ListensHere):
        full["token"] = True
        said.append("--token")
    if not given.get("requirements") and running.requirements not in _trained_with(workspace, model_id):
        full["requirements"] = running.requirements
        said.append(f"--requirements (lines: {len(running.requirements)})")
    if not given.get("image") and running.image != ImageSpec(base_image=workspace.settings.base_image):
        full["image"] = running.image
        images = {"--base-image": running.image.base_image, "--image-name": running.image.image_name}
        said += [f"{option} {image}" for option, image in images.items() if image]
    notes = [Noted(text=f"kept from the running endpoint: {', '.join(said)}")] if said else []
    dropped = [name for name in running.serving_config if name not in (given.get("serving_config") or {})]
    if dropped:
        options = ", ".join("--signature" if name == "signature" else f"--serving {name}" for name in dropped)
        text = f"not kept from the running endpoint: {options}"
        notes.append(Noted(text=text, warning=True, hint="name it in this line where the new revision needs it too"))
    return full, notes


def _resources(asked: Resources, running: Resources, said: list[str]) -> Resources:
    """Return the resources asked for with the running endpoint's where an option was not given."""
    changes: dict[str, Any] = {}
    for option, fields in _RESOURCES.items():
        before = {field: getattr(running, field) for field in fields if getattr(running, field)}
        if before and not any(getattr(asked, field) for field in fields):
            changes |= before
            said.append(f"--{option} {list(before.values())[-1]}")
    return msgspec.structs.replace(asked, **changes)


def _trained_with(workspace: Context, model_id: str) -> list[tuple[str, ...]]:
    """Return requirements that nobody named: none, and those that the served revisions were trained with."""
    try:
        sources = workspace.registry.endpoint(endpoint_name(model_id)).sources.values()
    except NotFoundError:
        sources = {}.values()
    served = [revision for revision in known_revisions(workspace, model_id) if revision.uri in sources]
    return [(), *(planning.training_requirements(workspace, revision) for revision in served)]

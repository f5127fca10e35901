"""``%kaptain_deploy``: serve the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaptain_magics.magics.errors import usage_error
from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.job import read_image, read_resources
from kaptain_magics.magics.session import Session

if TYPE_CHECKING:
    from kaptain_magics.core.specs import EndpointSpec
    from kaptain_magics.model import Workspace

_SAME_AS_BEFORE = (
    *("protocol", "resources", "requirements", "serving_config", "workers", "autoscale", "min_replicas"),
    *("max_replicas", "host", "token", "image"),
)


def deploy(session: Session, workspace: Workspace, arguments: Arguments) -> Any:
    """Serve a model; what the line does not say stays as it was deployed last.

    Args:
        session: The notebook.
        workspace: Where it runs.
        arguments: The line.

    Returns:
        The endpoint; the deployment with ``--detach``; ``None`` for a dry run.
    """
    from kaptain_magics.model.planning import variables_of
    from kaptain_magics.script import expand, read_requirements

    model_id = arguments.positionals["NAME"]
    given = arguments.given(
        *("protocol", "replace", "workers", "autoscale", "min_replicas", "max_replicas", "host", "port", "timeout"),
        *("token", "trust", "model_uri"),
    )
    if "max_replicas" in given and given["max_replicas"] < given.get("min_replicas", 1):
        raise usage_error("--max-replicas is below --min-replicas", "swap them")
    if "model_uri" in given and "://" not in given["model_uri"]:
        given["model_uri"] = str(expand(given["model_uri"]))
    if "canary" in arguments.options:
        given["canary_percent"] = arguments.get("canary")
    if "env" in arguments.options:
        given["env"] = dict(arguments.get("env"))
    if "requirements" in arguments.options:
        given["requirements"] = read_requirements(arguments.get("requirements"))
    given["resources"], given["image"] = read_resources(arguments), read_image(arguments, workspace)
    before = _last_deployment(workspace, model_id)
    if arguments.given("serving", "signature"):
        told = dict(arguments.get("serving", ())) | arguments.given("signature")
        given["serving_config"] = (before.serving_config if before is not None else {}) | told
    if before is not None:
        same = {name: getattr(before, name) for name in _SAME_AS_BEFORE} | {"env": variables_of(before)}
        if workspace.settings.target == "kubernetes":  # which has none
            same["token"] = False
        given = same | {name: value for name, value in given.items() if value is not None}
    plan = workspace.model(model_id).plan_deployment(**given)
    deployment = session.carry_out(plan, arguments, arguments.get("on_interrupt", workspace.settings.on_interrupt))
    if deployment is None or arguments.get("detach"):
        return deployment
    endpoint = deployment.endpoint
    session.store(arguments.get("into"), endpoint)
    return endpoint


def _last_deployment(workspace: Workspace, model_id: str) -> EndpointSpec | None:
    from kaptain_magics.core.states import RunKind
    from kaptain_magics.errors import NotFoundError

    try:
        return workspace.store.find(model_id, RunKind.DEPLOY).record.endpoint
    except NotFoundError:
        return None

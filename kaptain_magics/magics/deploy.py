"""``%kaptain_deploy``: serve the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.line_errors import usage_error
from kaptain_magics.magics.line_requests import check_target, read_fields
from kaptain_magics.magics.session import Session

if TYPE_CHECKING:
    from kaptain_magics.model import Workspace


def deploy(session: Session, workspace: Workspace, arguments: Arguments) -> Any:
    """Serve a model; where it replaces a running endpoint, sizes that the line does not name stay, and it says so.

    Args:
        session: The notebook.
        workspace: Where it runs.
        arguments: The line.

    Returns:
        The endpoint; the deployment with ``--detach``; ``None`` for a dry run.
    """
    from kaptain_magics.model.replacing import keep_options
    from kaptain_magics.model.requests import DeploymentRequest

    model_id = arguments.positionals["NAME"]
    named = read_fields(arguments, DeploymentRequest)
    if "max_replicas" in named and named["max_replicas"] < named.get("min_replicas", 1):
        raise usage_error("--max-replicas is below --min-replicas", "swap them")
    check_target(workspace, arguments)
    options, notes = keep_options(workspace, model_id, named)
    plan = workspace.model(model_id).plan_deployment(DeploymentRequest(**options))
    plan.notes = (*plan.notes, *notes)
    deployment = session.carry_out(plan, arguments, workspace.settings.on_interrupt)
    if deployment is None or arguments.get("detach"):
        return deployment
    endpoint = deployment.endpoint
    session.store(arguments.get("into"), endpoint)
    return endpoint

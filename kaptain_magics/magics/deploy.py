"""``%kaptain_deploy``: serve the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaptain_magics.magics.errors import usage_error
from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.job import read_image, read_resources
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
    from kaptain_magics.model.running import kept
    from kaptain_magics.script import expand, read_requirements

    model_id = arguments.positionals["NAME"]
    options = arguments.given(
        *("protocol", "replace", "workers", "autoscale", "min_replicas", "max_replicas", "host", "port", "timeout"),
        *("model_uri", "revision", "token", "trust"),
    )
    if "max_replicas" in options and options["max_replicas"] < options.get("min_replicas", 1):
        raise usage_error("--max-replicas is below --min-replicas", "swap them")
    if "model_uri" in options and "://" not in options["model_uri"]:
        options["model_uri"] = str(expand(options["model_uri"]))
    if "canary" in arguments.options:
        options["canary_percent"] = arguments.get("canary")
    if "env" in arguments.options:
        options["env"] = dict(arguments.get("env"))
    if "requirements" in arguments.options:
        options["requirements"] = read_requirements(arguments.get("requirements"))
    options["resources"], options["image"] = read_resources(arguments), read_image(arguments, workspace)
    if arguments.given("serving", "signature"):
        options["serving_config"] = dict(arguments.get("serving", ())) | arguments.given("signature")
    options, notes = kept(workspace, model_id, options)
    plan = workspace.model(model_id).plan_deployment(**options)
    plan.notes = (*plan.notes, *notes)
    deployment = session.carry_out(plan, arguments, arguments.get("on_interrupt", workspace.settings.on_interrupt))
    if deployment is None or arguments.get("detach"):
        return deployment
    endpoint = deployment.endpoint
    session.store(arguments.get("into"), endpoint)
    return endpoint

"""Plans a deployment: which revision, and what its endpoint needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import endpoint_name, new_hex, new_run_id
from kaptain_magics.core.specs import EndpointOptions, EndpointSpec
from kaptain_magics.errors import ServingError
from kaptain_magics.model.plan import DeploymentPlan
from kaptain_magics.model.replacing import blocks_deployment, check_token, listening_address, running_endpoint
from kaptain_magics.model.requests import DeploymentRequest, literal_values, passed_on_names, without_secrets
from kaptain_magics.model.revisions import check_servable, choose_revision, training_requirements
from kaptain_magics.targets.endpoint_store import check_canary

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context


def plan_deployment(context: Context, model_id: str, request: DeploymentRequest) -> DeploymentPlan:
    """Return the plan of a deployment; ``revisions.choose_revision`` says which revision is served.

    Raises:
        ModelError: There is nothing to deploy, or no such revision.
        ServingError: An endpoint is there already and ``replace`` was not asked for, or it listens elsewhere.
    """
    name, canary = endpoint_name(model_id), request.canary_percent is not None
    if request.canary_percent is not None:
        check_canary(request.canary_percent)
    choice = choose_revision(context, model_id, request.model_uri, request.revision, canary, request.trust)
    check_servable(context, model_id, choice.revision)
    running = running_endpoint(context, model_id)
    if running is not None and not request.replace and not canary and blocks_deployment(context, name):
        hint = "add --replace (replace=True) to swap it without a refused request"
        raise ServingError(f"{name} is deployed already", hint)
    check_token(context, request.token)
    options = {name: getattr(request, name) for name in EndpointOptions.__struct_fields__}
    options |= {
        "requirements": without_secrets(request.requirements) or training_requirements(context, choice.revision),
        "host": listening_address(name, request.host, running, canary),
    }
    spec = EndpointSpec(
        **options,
        name=name,
        run_id=new_run_id(),
        model_id=model_id,
        revision=new_hex(32),
        artifact_uri=choice.revision.uri,
        files=choice.revision.files,
        framework=request.framework or ModelFramework.of(choice.revision.framework or "sklearn"),
        env=literal_values(request.env),
        env_names=passed_on_names(request.env),
    )
    return DeploymentPlan(context, spec, notes=choice.notes)

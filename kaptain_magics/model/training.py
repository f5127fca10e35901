"""Plans a training run, and the jobs of a study: names, places in the object store, bindings of hyperparameters."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.core.domains import spelled_value
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_job_name, new_run_id
from kaptain_magics.core.specs import JobOptions, JobSpec
from kaptain_magics.errors import ScriptError
from kaptain_magics.model.plan import TrainingPlan
from kaptain_magics.model.requests import TrainingRequest, literal_values, passed_on_names, without_secrets

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context
    from kaptain_magics.model.meta import ModelName


def plan_training(context: Context, model: ModelName, request: TrainingRequest) -> TrainingPlan:
    """Return the plan of a training run; see ``build_job``."""
    from kaptain_magics.script import remarks

    job = build_job(context, model, request, "train")
    return TrainingPlan(
        context, job, request.sent, model.info, [*job.script.dropped, *remarks(job.script, job.parameters)]
    )


def build_job(context: Context, model: ModelName, request: TrainingRequest, phase: str) -> JobSpec:
    """Return the job that runs the request's script with its hyperparameters.

    Args:
        context: Where it will run.
        model: The model.
        request: What is asked, with a script.
        phase: ``train``, or ``tune`` for the template of a study's trials.

    Raises:
        ScriptError: The script does not take a hyperparameter, a file is missing, or a number cannot be.
        ConfigError: A variable that is passed on is not set here.
    """
    from kaptain_magics.script import bindings, whole_name

    script = request.script
    assert script is not None
    if request.workers < 1:
        raise ScriptError(f"workers must be 1 or more, not {request.workers}", "write --workers 1 or more")
    if request.timeout is not None and not request.timeout > 0:
        hint = "write --timeout with seconds above 0"
        raise ScriptError(f"timeout must be greater than 0, not {request.timeout:g}", hint)
    options = {name: getattr(request, name) for name in JobOptions.__struct_fields__}
    options |= {
        "args": tuple(request.args),
        "files": _checked_files(request),
        "requirements": without_secrets(request.requirements),
    }
    values = {whole_name(script, name): spelled_value(value) for name, value in request.parameters.items()}
    if phase == "train":  # a command line has texts only
        values = {name: str(value) if name.startswith("-") else value for name, value in values.items()}
    run_id = new_run_id()
    stage = "trained" if phase == "train" else "tuned"
    return JobSpec(
        **options,
        name=new_job_name(model.name, "job"),
        run_id=run_id,
        model_id=model.id,
        script=script,
        framework=request.framework or ModelFramework.guess(script.imports),
        phase=phase,
        folder=str(context.store.folder / run_id),
        parameters=values,
        bindings=bindings(script, list(values)),
        env=literal_values(request.env),
        env_names=passed_on_names(request.env),
        upload_uri=f"{context.settings.models_uri}/{model.id}/{stage}/{uuid.uuid4().hex}",
    )


def _checked_files(request: TrainingRequest) -> tuple[str, ...]:
    """Return the absolute paths of the files beside the script."""
    script = request.script
    paths = [_absolute(name) for name in request.files]
    for path in paths:
        if not path.exists():
            raise ScriptError(f"there is no file or folder {path}", "check --files")
        if script is not None and path.name == script.name:
            raise ScriptError(f"{script.name} is the script itself", "leave it out of --files, or rename it")
    return tuple(map(str, paths))


def _absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:  # `~name` of a user who does not exist
        raise ScriptError(f"{path}: {error}", "write the whole path") from error

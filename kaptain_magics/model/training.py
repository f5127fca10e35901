"""Plans a training run, and the jobs of a study: names, places in the object store, bindings of hyperparameters."""

from __future__ import annotations

import glob
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.core.domains import spelled_value
from kaptain_magics.core.events import Noted
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_job_name, new_run_id
from kaptain_magics.core.specs import JobOptions, JobSpec
from kaptain_magics.errors import ScriptError
from kaptain_magics.model.inputs import notes_on_inputs, with_inputs
from kaptain_magics.model.plan import TrainingPlan
from kaptain_magics.model.requests import TrainingRequest, literal_values, passed_on_names, without_secrets

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context
    from kaptain_magics.model.meta import ModelName


def plan_training(context: Context, model: ModelName, request: TrainingRequest) -> TrainingPlan:
    """Return the plan of a training run; see ``build_job``."""
    from kaptain_magics.script import remarks

    job = build_job(context, model, request, "train")
    notes: list[str | Noted] = [
        *job.script.dropped,
        *remarks(job.script, job.parameters),
        *notes_on_inputs(context, job),
    ]
    return TrainingPlan(context, job, request.sent, model.info, notes)


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
        "isolated": request.isolated or context.settings.isolated,
        "requirements": without_secrets(request.requirements),
    }
    values = {whole_name(script, name): spelled_value(value) for name, value in request.parameters.items()}
    if phase == "train":  # a command line has texts only
        values = {name: str(value) if name.startswith("-") else value for name, value in values.items()}
    run_id = new_run_id()
    stage = "trained" if phase == "train" else "tuned"
    job = JobSpec(
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
    return with_inputs(context, job)


def _checked_files(request: TrainingRequest) -> tuple[str, ...]:
    """Return the absolute paths of the files beside the script; patterns become what fits them."""
    script = request.script
    paths = [path for name in request.files for path in _fitting(name)]
    places: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise ScriptError(f"there is no file or folder {path}", "check --files")
        if script is not None and path.name == script.name:
            raise ScriptError(f"{script.name} is the script itself", "leave it out of --files, or rename it")
        other = places.setdefault(path.name, path)
        if other != path:
            hint = "name the folder that holds them: the script finds it with everything in it"
            raise ScriptError(f"{other} and {path} would both be {path.name} beside the script", hint)
    return tuple(map(str, places.values()))


def _fitting(name: str) -> list[Path]:
    """Return the paths that a name or pattern of ``--files`` stands for."""
    path = _absolute(name)
    if path.exists() or not glob.has_magic(name):
        return [path]
    pattern = str(Path(name).expanduser())  # which may be absolute: Path.glob refuses that
    fitting = [_absolute(path) for path in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    if not fitting:
        raise ScriptError(f"nothing fits {name}", f"check --files; paths begin in {Path.cwd()}")
    return fitting


def _absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:  # `~name` of a user who does not exist
        raise ScriptError(f"{path}: {error}", "write the whole path") from error

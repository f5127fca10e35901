"""Plans a run again: the same script, hyperparameters, options and sent values, under new names."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import Noted
from kaptain_magics.core.names import new_job_name, new_run_id
from kaptain_magics.core.specs import JobOptions, JobSpec, StudySpec
from kaptain_magics.errors import NotFoundError, ScriptError
from kaptain_magics.model.inputs import notes_on_changes, notes_on_inputs, with_inputs
from kaptain_magics.model.meta import ModelName
from kaptain_magics.model.plan import StudyPlan, TrainingPlan
from kaptain_magics.model.requests import TrainingRequest, variables_of
from kaptain_magics.model.training import build_job
from kaptain_magics.state import RunFolder
from kaptain_magics.state.sent_values import SENT
from kaptain_magics.targets.base import present

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context


def plan_rerun(context: Context, name: str, values: Mapping[str, str] | None = None) -> TrainingPlan | StudyPlan:
    """Return the plan that does a training or a study again.

    Files beside the notebook are read as they are now; a note says which have changed.

    Args:
        context: Where it runs.
        name: The run: an id or its beginning, a name, or a model's id (its newest run).
        values: Texts of hyperparameters that are to be others, by name; for a training.

    Raises:
        NotFoundError: There is no such run, or the values that it was sent are gone.
        ScriptError: It is a deployment, or its script does not take a value.
        ConfigError: A variable that was passed on is not set here.
    """
    folder = context.store.find(name)
    record = folder.record
    model = ModelName(record.model_id, record.model_info.get("name", record.model_id))
    text = f"a rerun of {record.name}"
    if record.job is not None:
        job = _again(context, model, record.job, values or {})
        plan: TrainingPlan | StudyPlan = TrainingPlan(context, job, model_info=record.model_info)
    elif record.study is not None:
        if values:
            hint = f"search others: %kaptain_tune {record.model_id} name=Domain"
            raise ScriptError("a study searches its values", hint)
        study = _study_again(context, model, record.study)
        job, plan = study.job, StudyPlan(context, study, model_info=record.model_info)
    else:
        hint = f"%kaptain_deploy {record.model_id} --replace deploys its model again"
        raise ScriptError(f"{record.name} is a deployment", hint)
    before = record.job or record.study.job  # type: ignore[union-attr]  # one of both is there
    changed = notes_on_changes(before.inputs, job.inputs, f"the run {record.name}", warning=True)
    plan.notes = [Noted(text=text), *changed, *notes_on_inputs(context, job)]
    plan.sent_from = _sent(folder, before)
    return plan


def _again(context: Context, model: ModelName, before: JobSpec, values: Mapping[str, str]) -> JobSpec:
    from kaptain_magics.script import typed, whole_name

    changed = typed(before.script, values)
    names = {whole_name(before.script, name).lstrip("-") for name in changed}
    parameters: dict[str, Value] = {
        name: value for name, value in before.parameters.items() if name.lstrip("-") not in names
    }
    options = {name: getattr(before, name) for name in JobOptions.__struct_fields__}
    request = TrainingRequest(
        **options,
        script=before.script,
        parameters=parameters | changed,
        env=variables_of(before),
        framework=before.framework,
    )
    return build_job(context, model, request, "train")


def _study_again(context: Context, model: ModelName, before: StudySpec) -> StudySpec:
    present(before.job.env_names)
    run_id = new_run_id()
    uri = f"{context.settings.models_uri}/{model.id}/tuned/{uuid.uuid4().hex}"
    folder = str(context.store.folder / run_id)
    job = msgspec.structs.replace(
        before.job, name=new_job_name(model.name, "job"), run_id=run_id, folder=folder, upload_uri=uri
    )
    job = with_inputs(context, job)
    return msgspec.structs.replace(before, name=new_job_name(model.name, "tune"), run_id=run_id, job=job, resume="")


def _sent(folder: RunFolder, before: JobSpec) -> str:
    """Return the file with the values that a run was sent; empty where it was sent none.

    Raises:
        NotFoundError: They are gone.
    """
    if not before.capture.send:
        return ""
    path = folder.path / SENT
    if not path.exists():
        names = " ".join(f"--send {name}" for name in before.capture.send)
        raise NotFoundError(
            f"the values that were sent to {before.name} were freed", f"run its cell again, with {names}"
        )
    return str(path)

"""Plans a study: what is searched, by which script, and what goes on from the run before it."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from kaptain_magics.core.domains import Domain, Value
from kaptain_magics.core.events import Noted
from kaptain_magics.core.names import new_job_name, new_run_id
from kaptain_magics.core.objectives import later_directions, read_objectives
from kaptain_magics.core.scripts import Binding
from kaptain_magics.core.specs import JobSpec, StudyOptions, StudySpec
from kaptain_magics.core.states import RunKind
from kaptain_magics.errors import NotFoundError, ScriptError, StateError
from kaptain_magics.model.inputs import notes_on_changes, notes_on_inputs, with_inputs
from kaptain_magics.model.opened_runs import open_run
from kaptain_magics.model.plan import StudyPlan
from kaptain_magics.model.study import Study
from kaptain_magics.model.study_defaults import inherit
from kaptain_magics.model.training import build_job
from kaptain_magics.state.sent_values import SENT
from kaptain_magics.targets.base import present

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context
    from kaptain_magics.model.meta import ModelName
    from kaptain_magics.model.requests import TuningRequest

CHANGEABLE = ("trials", "parallel", "failed_trials", "goal", "timeout")
"""Options of a study that may change when it is resumed."""


def plan_tuning(context: Context, model: ModelName, request: TuningRequest) -> StudyPlan:
    """Return the plan of a study; without a script, of the one that the model was trained or tuned with last.

    Raises:
        KaptainError: Domains, objectives, counts, the algorithm or an option of the job cannot be used.
        NotFoundError: There is no script.
    """
    from kaptain_magics.script import remarks, whole_name
    from kaptain_magics.tuning.checks import fit_grid

    job = request.job
    before = last_script(context, model.id) if job.script is None else None
    script = before.script if before is not None else job.script
    assert script is not None
    names = {name: whole_name(script, name) for name in request.domains}
    domains = {
        names[name]: domain.renamed(lambda other: whole_name(script, other)) if isinstance(domain, Domain) else domain
        for name, domain in request.domains.items()
    }
    settings = dict(request.algorithm_settings)
    if "resource_name" in settings:  # hyperband's: the name of a hyperparameter
        settings["resource_name"] = whole_name(script, settings["resource_name"])
    request = msgspec.structs.replace(request, domains=domains, algorithm_settings=settings)
    notes = [Noted(text=line) for line in script.dropped if before is None]
    if before is not None:
        taken, lines = _inherited_values(context, before, {*request.domains, *job.parameters})
        sent = job.sent or sent_values(context, before)
        job, notes = inherit(job, before)
        job = msgspec.structs.replace(job, sent=sent, parameters={**taken, **job.parameters})
        notes += [Noted(text=line) for line in lines]
    request = msgspec.structs.replace(request, job=job)
    spec, fitted = fit_grid(build_study(context, model, request))
    notes += [Noted(text=line) for line in remarks(script, [*spec.domains, *spec.job.parameters])]
    notes += notes_on_inputs(context, spec.job)
    if before is not None:
        notes += notes_on_changes(before.inputs, spec.job.inputs, f"the last {before.phase} run, {before.name}")
    return StudyPlan(context, spec, job.sent, model.info, [*notes, *fitted])


def build_study(context: Context, model: ModelName, request: TuningRequest) -> StudySpec:
    """Return the study that searches the request's domains; its job is the template of the trials.

    An objective without a stated direction (``loss:max``, or ``direction`` for the first) gets that of its name.

    Raises:
        KaptainError: Domains, objectives, counts or the algorithm cannot be used.
    """
    from kaptain_magics.core.algorithm_names import Algorithm
    from kaptain_magics.targets.study_runners import runner_of
    from kaptain_magics.tuning.checks import check_study

    given = msgspec.structs.replace(
        request.job, parameters={**request.job.parameters, **dict.fromkeys(request.domains, "")}
    )
    job = build_job(context, model, given, "tune")
    objectives = read_objectives(request.objectives, request.direction)
    runner = runner_of(context.target())
    options = {name: getattr(request, name) for name in StudyOptions.__struct_fields__}
    options |= {
        "parallel": min(request.parallel, request.trials),
        "algorithm": Algorithm.of(request.algorithm).value,
        "tuner": request.tuner or (context.settings.cluster_tuner if runner is not None else ""),
    }
    if options["algorithm"] == Algorithm.NSGA2 and len(objectives) > 1:
        options["pareto"] = True  # what it is there for
    spec = StudySpec(
        **options,
        name=new_job_name(model.name, "tune"),
        run_id=job.run_id,
        model_id=job.model_id,
        job=msgspec.structs.replace(
            job,
            parameters={k: v for k, v in job.parameters.items() if k not in request.domains},
            timeout=None,
            metric_names=tuple(o.name for o in objectives),
            capture=msgspec.structs.replace(job.capture, fetch=()),
        ),
        domains=dict(request.domains),
        objectives=tuple(o.name for o in objectives),
        direction=objectives[0].direction,
        directions=dict(later_directions(objectives)),
        timeout=job.timeout,
    )
    check_study(spec, runner)
    for name, domain in spec.domains.items():
        if domain.conditions and spec.job.bindings.get(name) is Binding.POSITION:
            raise ScriptError(
                f"`{name}` is a word of the command line by its place, so no trial can leave it out",
                "remove the condition",
            )
    return spec


def plan_resumption(context: Context, word: str, changes: Mapping[str, Any] | None = None) -> StudyPlan:
    """Return the plan that goes on with an interrupted study.

    Args:
        context: Where it ran.
        word: The study's id or name, or the model's id.
        changes: Options that are to be other than before, by name; see ``CHANGEABLE``.

    Raises:
        NotFoundError: There is no such study.
        StateError: It still goes on, or there is nothing left to do.
        ConfigError: A variable that is passed on to it is not set here.
    """
    from kaptain_magics.tuning.checks import fit_grid

    folder = context.store.find(word, RunKind.TUNE)
    old = folder.record.study
    assert old is not None
    if not folder.last_state().state.terminal:
        raise StateError(f"study {old.name} is still running", f"%kaptain attach {folder.run_id}")
    present(old.job.env_names)
    run_id = new_run_id()
    job = msgspec.structs.replace(old.job, run_id=run_id, folder=str(context.store.folder / run_id))
    job = with_inputs(context, job)
    on_inputs = notes_on_changes(old.job.inputs, job.inputs, f"study {old.name} began", warning=True)
    on_inputs += notes_on_inputs(context, job)
    spec = msgspec.structs.replace(old, run_id=run_id, job=job, resume=folder.run_id, **dict(changes or {}))
    spec, notes = fit_grid(spec)
    return StudyPlan(context, spec, model_info=folder.record.model_info, notes=[*on_inputs, *notes])


# ---- the run before ---------------------------------------------------------------------------------------------


def last_script(context: Context, model_id: str) -> JobSpec:
    """Return the job that the model was trained or tuned with last.

    Raises:
        NotFoundError: It never was.
    """
    for folder in context.store.folders():
        try:
            record = folder.record
        except StateError:
            continue
        if record.model_id == model_id and record.kind in (RunKind.TRAIN, RunKind.TUNE):
            job = record.job or (record.study.job if record.study else None)
            if job is not None:
                return job
    try:
        context.registry.model(model_id)
    except NotFoundError as error:
        raise NotFoundError(f"{model_id} has never been trained here", error.hint) from None
    raise NotFoundError(
        f"the script of {model_id} was deleted with its runs", f"train it again: %kaptain_train {model_id}"
    )


def sent_values(context: Context, before: JobSpec) -> dict[str, Any]:
    """Return the values of the notebook that an earlier job was sent.

    Raises:
        NotFoundError: They are gone with its run.
    """
    if not before.capture.send:
        return {}
    try:
        return dict(pickle.loads((context.store.folder / before.run_id / SENT).read_bytes()))  # our own file
    except OSError as error:
        names = " ".join(f"--send {name}" for name in before.capture.send)
        raise NotFoundError(
            f"the values that were sent to {before.name} were deleted with its run", f"add {names}"
        ) from error


def _inherited_values(
    context: Context, before: JobSpec, named: Collection[str]
) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Return the hyperparameters that a study takes from the model's last run, and the lines that say so.

    Those that the last run was given stay as they were; those that it searched get the best trial's values.

    Args:
        context: Where the model's runs are.
        before: The job of the last run.
        named: Names that are searched now, or given a value.
    """
    best: Mapping[str, Value] = {}
    without_best: list[str] = []
    with contextlib.suppress(StateError):
        run = open_run(context.folder(before.run_id), context)
        if isinstance(run, Study):
            best = run.best_parameters
            searched = run.record.study.domains if run.record.study is not None else {}
            without_best = [name for name in searched if name not in named and name not in best]
    given = {name: value for name, value in before.parameters.items() if name not in named}
    tuned = {name: value for name, value in best.items() if name not in named}
    lines = []
    if tuned:
        lines.append(f"Taken from the best trial of the last study: {_spelled(tuned)}.")
    if given:
        lines.append(f"Taken from the last run: {_spelled(given)}.")
    if without_best:
        names = ", ".join(without_best)
        why = "the best trial of the last study does not have it" if best else "the last study has no best trial"
        lines.append(f"Unchanged from the script, because {why}: {names}.")
    return given | tuned, tuple(lines)


def _spelled(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())

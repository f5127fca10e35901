"""Turns what a person asked for into specs: names, places in the object store, bindings of hyperparameters."""

from __future__ import annotations

import contextlib
import pickle
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from kaptain_magics.core.domains import AnyDomain, Value
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_job_name, new_run_id
from kaptain_magics.core.objectives import later_directions, read_objectives
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.secrets import PASSWORD_HINT, holds_password, is_secret
from kaptain_magics.core.specs import Capture, ClusterOptions, EndpointSpec, ImageSpec, JobSpec, Script, StudySpec
from kaptain_magics.core.states import Direction, RunKind
from kaptain_magics.errors import (
    ConfigError,
    NotFoundError,
    ScriptError,
    StateError,
)
from kaptain_magics.model.plan import StudyPlan
from kaptain_magics.model.runs import Study, open_run
from kaptain_magics.state import Revision
from kaptain_magics.targets.base import present

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context
    from kaptain_magics.tuning.checks import Tuner


class JobOptions(TypedDict, total=False):
    """Options of every job, shared by training and trials."""

    args: Sequence[str]
    resources: Resources
    files: Sequence[str]
    requirements: Sequence[str]
    env: Mapping[str, str | None]  # None takes the value from this process's environment
    framework: ModelFramework | None
    capture: Capture
    timeout: float | None
    workers: int
    image: ImageSpec
    cluster: ClusterOptions


def build_job(
    workspace: Context,
    model_id: str,
    model_name: str,
    script: Script,
    parameters: Mapping[str, Value],
    phase: str,
    options: JobOptions,
) -> JobSpec:
    """Return the job that runs ``script`` with these hyperparameters.

    Raises:
        ScriptError: The script does not take one of them, or a file is missing.
    """
    from kaptain_magics.script import bindings

    run_id = new_run_id()
    stage = "trained" if phase == "train" else "tuned"
    files = tuple(str(_absolute(f)) for f in options.get("files", ()))
    for path in files:
        if not Path(path).exists():
            raise ScriptError(f"there is no file or folder {path}", "check --files")
        if Path(path).name == script.name:
            raise ScriptError(f"{script.name} is the script itself", "leave it out of --files, or rename it")
    bound = {name: str(value) if name.startswith("-") else value for name, value in parameters.items()}
    workers = options.get("workers", 1)
    if workers < 1:
        raise ScriptError(f"{workers} workers cannot work", "write --workers 1 or more")
    return JobSpec(
        name=new_job_name(model_name, "job"),
        run_id=run_id,
        model_id=model_id,
        script=script,
        framework=options.get("framework") or ModelFramework.guess(script.imports),
        phase=phase,
        folder=str(workspace.store.folder / run_id),
        parameters=bound if phase == "train" else dict(parameters),
        bindings=bindings(script, list(parameters)),
        args=tuple(options.get("args", ())),
        env=literal(options.get("env", {})),
        env_names=passed_on(options.get("env", {})),
        files=files,
        requirements=without_secrets(options.get("requirements", ())),
        resources=options.get("resources") or Resources(),
        workers=workers,
        timeout=_positive(options.get("timeout"), "timeout"),
        capture=options.get("capture") or Capture(),
        upload_uri=f"{workspace.settings.models_uri}/{model_id}/{stage}/{uuid.uuid4().hex}",
        image=options.get("image") or ImageSpec(base_image=workspace.settings.base_image),
        cluster=options.get("cluster") or ClusterOptions(),
    )


def without_secrets(requirements: Sequence[str]) -> tuple[str, ...]:
    """Return lines of requirements, which are written down, once they are known to hold no password.

    Raises:
        ScriptError: One does.
    """
    for number, line in enumerate(requirements, start=1):
        if holds_password(line):
            raise ScriptError(f"line {number} of the requirements holds a password", PASSWORD_HINT)
    return tuple(requirements)


def literal(env: Mapping[str, str | None]) -> dict[str, str]:
    """Return the variables whose values were given, which are written down.

    Raises:
        ConfigError: One is a secret.
    """
    given = {name: value for name, value in env.items() if value is not None}
    for name, value in given.items():
        if is_secret(name, value):
            hint = (
                f'os.environ["{name}"] = getpass.getpass() in the notebook, then --env {name} (env={{"{name}": None}})'
            )
            raise ConfigError(
                f"{name} looks like a secret, and a value given here is written to the run's record", hint
            )
    return given


def passed_on(env: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the names of the variables whose values are passed on from this process's environment.

    Raises:
        ConfigError: One is not set there.
    """
    return present(name for name, value in env.items() if value is None)


def variables_of(spec: JobSpec | EndpointSpec) -> dict[str, str | None]:
    """Return the variables of an earlier job or endpoint as options for another one."""
    return {**spec.env, **dict.fromkeys(spec.env_names)}


def _absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:  # ~somebody who does not exist
        raise ScriptError(f"{path}: {error}", "write the whole path") from error


def _positive(seconds: float | None, what: str) -> float | None:
    if seconds is not None and not seconds > 0:
        raise ScriptError(f"{what} must be greater than 0, not {seconds:g}", f"write --{what} with seconds above 0")
    return seconds


def build_study(
    job: JobSpec,
    model_name: str,
    domains: Mapping[str, AnyDomain],
    objectives: Sequence[str],
    *,
    goal: float | None = None,
    direction: Direction | None = None,
    trials: int = 16,
    parallel: int = 2,
    failed_trials: int = 4,
    algorithm: str = "random",
    algorithm_settings: Mapping[str, str] | None = None,
    early_stopping: str = "",
    early_stopping_settings: Mapping[str, str] | None = None,
    seed: int | None = None,
    tuner: Tuner | None = None,
) -> StudySpec:
    """Return the study that searches ``domains`` with ``job`` as the template of its trials.

    An objective without a stated direction (``loss:max``, or ``direction`` for the first) gets that of its name.

    Raises:
        KaptainError: Domains, objectives, counts or the algorithm cannot be used.
    """
    from kaptain_magics.core.algorithms import Algorithm
    from kaptain_magics.tuning.checks import Tuner, check_study

    named = read_objectives(objectives, direction)
    spec = StudySpec(
        name=new_job_name(model_name, "tune"),
        run_id=job.run_id,
        model_id=job.model_id,
        job=msgspec.structs.replace(
            job,
            parameters={k: v for k, v in job.parameters.items() if k not in domains},
            timeout=None,
            metric_names=tuple(o.name for o in named),
            capture=msgspec.structs.replace(job.capture, fetch=()),
        ),
        domains=dict(domains),
        objectives=tuple(o.name for o in named),
        goal=goal,
        direction=named[0].direction,
        directions=dict(later_directions(named)),
        trials=trials,
        parallel=min(parallel, trials),
        failed_trials=failed_trials,
        algorithm=Algorithm.of(algorithm).value,
        algorithm_settings=dict(algorithm_settings or {}),
        early_stopping=early_stopping,
        early_stopping_settings=dict(early_stopping_settings or {}),
        timeout=job.timeout,
        seed=seed,
    )
    check_study(spec, tuner or Tuner.OURS)
    return spec


def last_script(workspace: Context, model_id: str) -> JobSpec:
    """Return the job that the model was trained or tuned with last.

    Raises:
        NotFoundError: It never was.
    """
    for folder in workspace.store.folders():
        try:
            record = folder.record
        except StateError:
            continue
        if record.model_id == model_id and record.kind in (RunKind.TRAIN, RunKind.TUNE):
            job = record.job or (record.study.job if record.study else None)
            if job is not None:
                return job
    try:
        workspace.registry.model(model_id)
    except NotFoundError as error:
        raise NotFoundError(f"{model_id} has never been trained here", error.hint) from None
    raise NotFoundError(f"the script of {model_id} is gone with its runs", f"train it again: %kaptain_train {model_id}")


def values_taken_over(
    workspace: Context, before: JobSpec, asked: Collection[str]
) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Return the hyperparameters that a study takes from the model's last run, and a line that says so.

    Those that the last run was given stay as they were; those that it searched get the best trial's values.

    Args:
        workspace: Where the model's runs are.
        before: The job of the last run.
        asked: Names that are searched now, or given a value.
    """
    best: Mapping[str, Value] = {}
    lost: list[str] = []
    with contextlib.suppress(StateError):
        run = open_run(workspace.folder(before.run_id), workspace)
        if isinstance(run, Study):
            best = run.best_parameters
            searched = run.record.study.domains if run.record.study is not None else {}
            lost = [name for name in searched if name not in asked and name not in best]
    given = {name: value for name, value in before.parameters.items() if name not in asked}
    found = {name: value for name, value in best.items() if name not in asked}
    lines = []
    if found:
        lines.append(f"Taken from the best trial of the last study: {_spelled(found)}.")
    if given:
        lines.append(f"Taken from the last run: {_spelled(given)}.")
    if lost:
        lines.append(f"Left as the script has it, for the last study found no best trial: {', '.join(lost)}.")
    return given | found, tuple(lines)


def _spelled(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def filled_up(options: JobOptions, before: JobSpec) -> JobOptions:
    """Return the options of a job with those of an earlier one where nothing was asked for."""
    full: JobOptions = {**options}
    full["env"] = full.get("env") or variables_of(before)
    for name in ("args", "resources", "files", "requirements", "framework", "capture"):
        value = full.get(name)
        if not value or value in (Resources(), Capture()):
            full[name] = getattr(before, name)
    asked = full.get("image") or ImageSpec()
    full["image"] = ImageSpec(
        base_image=asked.base_image or before.image.base_image, image_name=asked.image_name or before.image.image_name
    )
    return full


def sent_values(workspace: Context, before: JobSpec) -> dict[str, Any]:
    """Return the values of the notebook that an earlier job was sent.

    Raises:
        NotFoundError: They are gone with its run.
    """
    if not before.capture.send:
        return {}
    try:
        return dict(pickle.loads((workspace.store.folder / before.run_id / "sent.pkl").read_bytes()))  # our own file
    except OSError as error:
        names = " ".join(f"--send {name}" for name in before.capture.send)
        raise NotFoundError(f"the values that were sent to {before.name} are gone", f"add {names}") from error


def training_requirements(workspace: Context, revision: Revision) -> tuple[str, ...]:
    """Return the requirements of the job that made a revision, if its run is still there."""
    with contextlib.suppress(StateError):
        record = workspace.folder(revision.run_id).record
        job = record.job or (record.study.job if record.study is not None else None)
        if revision.run_id and job is not None:
            return job.requirements
    return ()


def resume_plan(workspace: Context, word: str, changes: Mapping[str, Any] | None = None) -> StudyPlan:
    """Return the plan that goes on with an interrupted study.

    Args:
        workspace: Where it ran.
        word: The study's id or name, or the model's id.
        changes: Fields of the ``StudySpec`` that are to be other than before, such as more ``trials``.

    Raises:
        NotFoundError: There is no such study.
        StateError: It still goes on, or there is nothing left to do.
        ConfigError: A variable that is passed on to it is not set here.
    """
    from kaptain_magics.tuning.checks import fit_grid

    folder = workspace.store.find(word, RunKind.TUNE)
    old = folder.record.study
    assert old is not None
    last = folder.last_state()
    if not last.state.terminal:
        raise StateError(f"study {old.name} still goes on", f"%kaptain attach {folder.run_id}")
    present(old.job.env_names)
    run_id = new_run_id()
    job = msgspec.structs.replace(old.job, run_id=run_id, folder=str(workspace.store.folder / run_id))
    spec = msgspec.structs.replace(old, run_id=run_id, job=job, resume=folder.run_id, **dict(changes or {}))
    spec, said = fit_grid(spec)
    return StudyPlan(workspace, spec, model_info=folder.record.model_info, notes=[said] if said else [])

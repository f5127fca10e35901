"""Supervises one study: the target's own tuner where it has one, else our loop over the target's jobs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import msgspec

from kaptain_magics.core.events import Event, Noted, StateChanged, TrialChanged
from kaptain_magics.core.objectives import describe_objectives
from kaptain_magics.core.pareto import values_of
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import NotFoundError, ObjectMissingError
from kaptain_magics.state import Revision, RunFolder
from kaptain_magics.state.sent_values import SENT, share
from kaptain_magics.supervisor.run_context import RunContext
from kaptain_magics.supervisor.tracked_run import with_tracker
from kaptain_magics.targets.base import WarmStart
from kaptain_magics.targets.study_runners import JOBS, StudyRunner, choose_runner, runner_of
from kaptain_magics.tuning.checks import check_study, remarks
from kaptain_magics.tuning.finish import (
    StudyResult,
    best_trials,
    keep_best,
    remove_intermediates,
    trials_uri,
    tuned_uri,
)
from kaptain_magics.tuning.study import run_study
from kaptain_magics.tuning.study_notes import StudyWatch

TIDIED = "tidied"  # a file that says that nothing of the study is left to clean


def run(context: RunContext) -> StateChanged:
    """Run the study to its end, keep its best model, remove the others, and return the run's last state."""
    spec = context.record.study
    assert spec is not None
    spec = msgspec.structs.replace(spec, job=with_tracker(spec.job))
    target = context.target
    if isinstance(target, WarmStart):
        target.warm_up(spec.job)
    context.note(describe_objectives(spec.directed, spec.pareto))
    context.emit_notes()
    earlier = _earlier(context, spec)
    runner = None if earlier else choose_runner(runner_of(target), spec)  # a study that goes on has trials of its own
    check_study(msgspec.structs.replace(spec, tuner=JOBS if runner is None else runner.name), runner)
    for remark in remarks(spec, runner):
        context.emit(remark)
    context.note(f"Creating experiment {spec.name}")
    context.emit(StateChanged(state=RunState.RUNNING))
    context.note(f"Experiment {spec.name} has been created.")
    watch = StudyWatch(spec, context.emit)
    if runner is not None:
        result = _native(context, runner, spec, watch.emit)
    else:
        result = run_study(
            spec,
            target,
            emit=watch.emit,
            stopping=context.stopping,
            folder=context.folder.path,
            upload_base=_base(context, spec),
            earlier=earlier,
        )
    watch.close(result.state)
    context.note(f"Model tuning completed, final status: {result.state.capitalize()}")
    if result.best is not None:
        parameters = {name: str(value) for name, value in result.best.parameters.items()}
        context.note(f"Experiment results:\nparameters: {parameters}, best_trial_name: {result.best.name}")
    tidy(context, spec, result.best, result.pareto)
    return StateChanged(state=result.state, reason=result.reason, hint=result.hint)


def _base(context: RunContext, spec: StudySpec) -> str:
    return f"{context.settings.models_uri}/{spec.model_id}"


def _earlier(context: RunContext, spec: StudySpec) -> list[TrialChanged]:
    """Return the trials of the study that this one goes on with, and take its sent values over."""
    if not spec.resume:
        return []
    before = RunFolder(context.folder.path.parent / spec.resume)
    with contextlib.suppress(FileNotFoundError):
        share(before.path / SENT, context.folder.path / SENT)
    try:
        return [event for event in before.events() if isinstance(event, TrialChanged)]
    except NotFoundError as error:
        raise NotFoundError(f"study {spec.resume} was removed", "start a new one") from error


def _native(context: RunContext, runner: StudyRunner, spec: StudySpec, emit: Callable[[Event], None]) -> StudyResult:
    """Follow a study that the target runs by itself."""
    ref = runner.start(spec)
    best: TrialChanged | None = None
    last = StateChanged(state=RunState.FAILED, reason="the target ended without reporting a final state")
    with context.ends_by(lambda: runner.stop(ref)):
        for event in runner.follow(ref):
            if isinstance(event, StateChanged) and event.state.terminal:
                last = event
                break
            if isinstance(event, TrialChanged) and event.best:
                best = event
            if not isinstance(event, StateChanged):
                emit(event)
    return StudyResult(state=last.state, reason=last.reason, hint=last.hint, best=best)


def tidy(context: RunContext, spec: StudySpec, best: TrialChanged | None, pareto: Sequence[TrialChanged] = ()) -> None:
    """Copy the models of the best trial, or of the Pareto set, to their places, remove the others; may be repeated."""
    store, base = context.store, _base(context, spec)
    kept = _different(pareto, best, spec)
    if len(kept) > 1 and best is not None:
        numbers = ", ".join(str(trial.number) for trial in kept)
        equal = f" with {len(kept)} different results" if len(kept) < len(pareto) else ""
        context.note(
            f"The Pareto set has {len(pareto)} trials{equal}; the models of {numbers} are kept. Trial {best.number}, "
            f"the best in {spec.objectives[0]}, is deployed unless --revision names another."
        )
    chosen = kept or ([best] if best is not None else [])
    saved = [trial for trial in chosen if trial.artifact_uri]
    if saved:
        context.note("Copying saved model with the best metrics from the trial to the target location.")
    for trial in saved:
        _keep(context, spec, trial, None if trial is best else trial.number)
    context.note("Removing intermediate trial models from the storage.")
    remove_intermediates(store, trials_uri(base, spec))
    (context.folder.path / TIDIED).touch(0o600)


def _different(pareto: Sequence[TrialChanged], best: TrialChanged | None, spec: StudySpec) -> list[TrialChanged]:
    """Return the first trial of each result in the Pareto set, the best one last."""
    if best is None:
        return []
    results = {values_of(best, spec.deciding): best}
    for trial in pareto:
        results.setdefault(values_of(trial, spec.deciding), trial)
    return [*list(results.values())[1:], best] if pareto else []


def _keep(context: RunContext, spec: StudySpec, best: TrialChanged, number: int | None) -> None:
    try:
        saved = keep_best(context.store, best, tuned_uri(_base(context, spec), spec, number))
    except ObjectMissingError as error:  # cleaned away since; the hyperparameters are still worth having
        gone = f"the model of the best trial {best.name} is missing: {error.message}"
        context.emit(Noted(text=gone, warning=True, hint="train again with the best trial's hyperparameters"))
        return
    context.emit(saved)
    context.emit(msgspec.structs.replace(best, seq=0, time=0.0, artifact_uri=saved.uri))  # for who resumes
    context.registry.add_revision(
        spec.model_id,
        Revision(
            revision=saved.uri.rpartition("/")[2],
            stage="tuned",
            uri=saved.uri,
            run_id=spec.run_id,
            created=time.time(),
            framework=saved.framework or spec.job.framework.value,
            format=saved.format,
            files=saved.files,
            size=saved.size,
            hyperparameters={**spec.job.parameters, **best.parameters},
            metrics=best.metrics,
            objective=spec.objectives[0],
            direction=spec.direction,
        ),
    )


def finish_dead(context: RunContext) -> None:
    """Keep the best model of a study whose supervisor was killed, and remove the others; nothing happens twice."""
    spec = context.record.study
    if spec is not None and not (context.folder.path / TIDIED).exists():
        tidy(context, spec, *best_trials(context.folder.events(), spec))

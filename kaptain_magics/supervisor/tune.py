"""Supervises one study: the target's own tuner where it has one, else our loop over the target's jobs."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid

from kaptain_magics.core.events import ArtifactSaved, StateChanged, TrialChanged
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, NotFoundError
from kaptain_magics.state import Revision, RunFolder
from kaptain_magics.supervisor.context import Context
from kaptain_magics.targets.base import NativeTuner
from kaptain_magics.tuning.study import StudyResult, run_study


def run(context: Context) -> StateChanged:
    """Run the study to its end, keep its best model, remove the others, and return the run's last state."""
    spec = context.record.study
    assert spec is not None
    warm_up = getattr(context.target, "warm_up", None)
    if warm_up is not None:
        warm_up(spec.job)
    earlier = _earlier(context, spec)
    context.note(f"Creating experiment {spec.name}")
    context.emit(StateChanged(state=RunState.RUNNING))
    context.note(f"Experiment {spec.name} has been created.")
    target = context.target
    if isinstance(target, NativeTuner) and target.can_tune() and not earlier:
        result = _native(context, target, spec)
    else:
        result = run_study(
            spec,
            target,
            emit=context.emit,
            stopping=context.stopping,
            folder=context.folder.path,
            upload_base=_base(context, spec),
            earlier=earlier,
        )
    context.note(f"Model tuning completed, final status: {result.state.capitalize()}")
    if result.best is not None:
        parameters = {name: str(value) for name, value in result.best.parameters.items()}
        context.note(f"Experiment results:\nparameters: {parameters}, best_trial_name: {result.best.name}")
    tidy(context, spec, result.best)
    return StateChanged(state=result.state, reason=result.reason, hint=result.hint)


def _base(context: Context, spec: StudySpec) -> str:
    return f"{context.settings.models_uri}/{spec.model_id}"


def _earlier(context: Context, spec: StudySpec) -> list[TrialChanged]:
    """Return the trials of the study that this one goes on with, and take its sent values over."""
    if not spec.resume:
        return []
    before = RunFolder(context.folder.path.parent / spec.resume)
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(before.path / "sent.pkl", context.folder.path / "sent.pkl")
    try:
        return [event for event in before.events() if isinstance(event, TrialChanged)]
    except NotFoundError as error:
        raise NotFoundError(f"study {spec.resume} was removed", "start a new one") from error


def _native(context: Context, target: NativeTuner, spec: StudySpec) -> StudyResult:
    """Follow a study that the target runs by itself."""
    ref = target.start(spec)
    best: TrialChanged | None = None
    last = StateChanged(state=RunState.FAILED, reason="the target ended without a last word")
    with context.ends_by(lambda: target.stop_study(ref)):
        for event in target.follow_study(ref):
            if isinstance(event, StateChanged) and event.state.terminal:
                last = event
                break
            if isinstance(event, TrialChanged) and event.best:
                best = event
            if not isinstance(event, StateChanged):
                context.emit(event)
    return StudyResult(state=last.state, reason=last.reason, hint=last.hint, best=best)


def tidy(context: Context, spec: StudySpec, best: TrialChanged | None) -> None:
    """Copy the best trial's model to its place and remove the models of the others; may be repeated."""
    from kaptain_magics.tuning.finish import keep_best, remove_intermediates

    store = context.store
    if best is not None and best.artifact_uri:
        place = f"{_base(context, spec)}/tuned/{uuid.uuid4().hex}"
        context.note("Copying saved model with the best metrics from the trial to the target location.")
        kept = keep_best(store, best, place)
        context.emit(
            ArtifactSaved(
                uri=kept.uri, files=kept.files, size=kept.size, framework=spec.job.framework.value, format=kept.format
            )
        )
        context.registry.add_revision(
            spec.model_id,
            Revision(
                revision=place.rpartition("/")[2],
                stage="tuned",
                uri=place,
                run_id=spec.run_id,
                created=time.time(),
                framework=kept.framework or spec.job.framework.value,
                files=kept.files,
                size=kept.size,
                hyperparameters={**spec.job.parameters, **best.parameters},
                metrics=best.metrics,
            ),
        )
    context.note("Removing intermediate trial models from the storage.")
    with contextlib.suppress(KaptainError):  # %kaptain clean finds what stays
        remove_intermediates(store, f"{_base(context, spec)}/trials/{spec.name}")

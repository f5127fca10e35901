"""How a study ended, and what is left in the object store: the best model in its own place, nothing of the others.

Both steps may be repeated, by another process too: a supervisor that was killed between them leaves nothing that the
next one cannot end.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from kaptain_magics.core.events import ArtifactSaved, Event, TrialChanged
from kaptain_magics.core.pareto import BestTrials
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.errors import ObjectMissingError

if TYPE_CHECKING:
    from kaptain_magics.storage import ObjectStore


class StudyResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a study ended.

    Attributes:
        state: ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
        reason: Why, in one sentence.
        hint: The next step after a failure.
        best: The best succeeded trial, also of an earlier study that this one went on with.
        pareto: The Pareto set, where several objectives decide.
        counts: Trials by state, the earlier ones included.
    """

    state: RunState
    reason: str
    hint: str = ""
    best: TrialChanged | None = None
    pareto: tuple[TrialChanged, ...] = ()
    counts: dict[TrialState, int] = {}


def trials_uri(base: str, spec: StudySpec) -> str:
    """Return the folder below which the study's trials save their models; ``base`` is the model's folder."""
    return f"{base.rstrip('/')}/trials/{spec.name}"


def tuned_uri(base: str, spec: StudySpec, trial: int | None = None) -> str:
    """Return the folder for the study's best model, or for that of a trial of its Pareto set.

    It depends on the run and the trial alone, so there is never a second copy.
    """
    word = spec.run_id if trial is None else f"{spec.run_id}/{trial}"
    return f"{base.rstrip('/')}/tuned/{uuid.uuid5(uuid.NAMESPACE_OID, word).hex}"


def best_trials(events: Iterable[Event], spec: StudySpec) -> tuple[TrialChanged | None, tuple[TrialChanged, ...]]:
    """Return the best trial that a study's events know of, and its Pareto set where several objectives decide."""
    best: TrialChanged | None = None
    trials: dict[int, TrialChanged] = {}
    for event in events:
        if isinstance(event, TrialChanged):
            trials[event.number] = event
            best = event if event.best else best
    if not spec.pareto:
        return best, ()
    known = BestTrials.of(trials.values(), spec.deciding)
    return known.best, tuple(known.trials)


def keep_best(store: ObjectStore, best: TrialChanged, uri: str) -> ArtifactSaved:
    """Copy the model of the best trial to its place.

    Args:
        store: Holds both.
        best: The trial; has saved a model.
        uri: The folder for it, as ``tuned_uri`` returns it.

    Returns:
        What is in that folder now.

    Raises:
        ObjectMissingError: The trial's model is neither where it was saved nor in its place.
        StorageError: The store cannot be used.
    """
    if best.artifact_uri != uri:
        try:
            store.copy(best.artifact_uri, uri)
        except ObjectMissingError:
            if not store.exists(uri):
                raise
    manifest = store.manifest(uri)
    return ArtifactSaved(
        uri=uri, files=manifest.files, size=manifest.size, framework=manifest.framework, format=manifest.format
    )


def remove_intermediates(store: ObjectStore, uri: str) -> None:
    """Remove the models of all trials of a study.

    Args:
        store: Holds them.
        uri: Their folder, as ``trials_uri`` returns it.

    Raises:
        StorageError: The store cannot be used.
    """
    store.delete(uri)

"""Targets that run studies by themselves, as Kubernetes does with Katib, and which of them runs a study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

from kaptain_magics.core.algorithm_settings import Setting
from kaptain_magics.core.events import Event
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.errors import TargetError
from kaptain_magics.targets.base import JobRef

JOBS, AUTO = "jobs", "auto"  # ``--tuner``: the loop of this package over the target's jobs; the target's own if there


class StudyRef(JobRef, frozen=True, kw_only=True):
    """A study that a target runs by itself."""


class StudyRunner(Protocol):
    """A target's own way to run studies: the loop of this package is not used for them.

    Attributes:
        name: What ``--tuner`` calls it, such as ``katib``.
        title: What messages call it, such as ``Katib``.
    """

    name: str
    title: str

    def settings(self, algorithm: str) -> Mapping[str, Setting] | None:
        """Return the settings that its algorithm of that name has; ``None`` where they are not known here."""

    def check(self, study: StudySpec) -> None:
        """Refuse a study that it would refuse, or could only fail with, without a request.

        Raises:
            KaptainError: Which part of it, and what to do instead.
        """

    def remarks(self, study: StudySpec) -> Iterable[str]:
        """Return a sentence for everything in a study that passed ``check`` and is ignored or done otherwise."""

    def available(self, study: StudySpec) -> bool:
        """Whether it is there and has the study's algorithm; may ask a server."""

    def start(self, study: StudySpec) -> StudyRef:
        """Start the study and return at once."""

    def follow(self, study: StudyRef, after: int = 0) -> Iterator[Event]:
        """Yield ``TrialChanged`` and other events until a terminal ``StateChanged``."""

    def stop(self, study: StudyRef) -> None:
        """End the study and its trials."""


@runtime_checkable
class NativeTuner(Protocol):
    """A target that can run studies by itself, as Kubernetes does with Katib."""

    @property
    def study_runner(self) -> StudyRunner:
        """What runs studies there, instead of our own loop over jobs."""


def runner_of(target: object) -> StudyRunner | None:
    """Return a target's own tuner, if it has one."""
    return target.study_runner if isinstance(target, NativeTuner) else None


def choose_runner(runner: StudyRunner | None, study: StudySpec) -> StudyRunner | None:
    """Return the target's own tuner where it is to run the study, ``None`` for the loop of this package.

    Raises:
        TargetError: The study names it, and it is not there.
    """
    if runner is None or study.tuner == JOBS:
        return None
    if runner.available(study):
        return runner
    if study.tuner == runner.name:
        runner.check(study)  # where the reason is its algorithm
        hint = f"--tuner {JOBS} searches without it, --tuner {AUTO} takes it where it is there"
        raise TargetError(f"--tuner {runner.name}, but {runner.title} is not there", hint)
    return None

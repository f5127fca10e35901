"""The states of runs, trials and endpoints."""

from __future__ import annotations

from enum import StrEnum


class RunKind(StrEnum):
    """What a run does: trains a model, searches its hyperparameters, or serves it."""

    TRAIN = "train"
    TUNE = "tune"
    DEPLOY = "deploy"


class RunState(StrEnum):
    """The life of a run; once terminal, a run never changes again."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def terminal(self) -> bool:
        """Whether a run in this state has ended."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED)


class TrialState(StrEnum):
    """The life of one trial of a study."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    EARLY_STOPPED = "early-stopped"

    @property
    def terminal(self) -> bool:
        """Whether a trial in this state has ended."""
        return self not in (TrialState.PENDING, TrialState.RUNNING)


class EndpointState(StrEnum):
    """The life of an endpoint: ``READY`` and ``FAILED`` may alternate, ``STOPPED`` is the end."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class Direction(StrEnum):
    """Whether the first objective is maximized or minimized."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"

    def better(self, a: float, b: float) -> bool:
        """Whether objective value ``a`` is strictly better than ``b``."""
        return a > b if self is Direction.MAXIMIZE else a < b

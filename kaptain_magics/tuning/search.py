"""The two protocols of the study loop: what to try next, and which trials to stop."""

from __future__ import annotations

from typing import Protocol

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.states import TrialState


class Search(Protocol):
    """Proposes hyperparameters. Used by one thread."""

    def ask(self, number: int) -> dict[str, Value] | None:
        """Return the hyperparameters of trial ``number``, or ``None`` when everything has been tried."""

    def tell(self, trial: TrialChanged, value: float | None) -> None:
        """Take note of an ended trial.

        Args:
            trial: The trial; one of an earlier study was never asked for.
            value: The objective; of an early stopped trial the last one reported; ``None`` where there is none.
        """


class Stopper(Protocol):
    """Decides from intermediate values which trials are stopped. Used by one thread."""

    def report(self, number: int, step: int, value: float) -> bool:
        """Take note of an objective value at a step (from 0, growing); returns whether to stop the trial now."""

    def end(self, number: int, state: TrialState, value: float | None) -> None:
        """Take note of an ended trial."""

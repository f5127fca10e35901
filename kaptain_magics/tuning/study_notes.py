"""What a study's trials say about the study itself: an objective that none reports, a goal that all reach."""

from __future__ import annotations

from collections.abc import Callable

from kaptain_magics.core.events import Event, Noted, TrialChanged
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import Direction, RunState, TrialState

_MAX_NOTES = 50  # different notes of trials that are shown


class NoteFilter:
    """Lets a note of the trials' jobs through once, whatever names and numbers are in it."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def is_new(self, note: Noted, job_name: str) -> bool:
        """Whether no other trial has said so; takes note of it."""
        parts = note.text.replace(job_name, "").split()
        template = " ".join(part for part in parts if not any(letter.isdigit() for letter in part))
        if template in self._seen or len(self._seen) >= _MAX_NOTES:
            return False
        self._seen.add(template)
        return True


def without_steps(spec: StudySpec, number: int) -> Noted:
    """Return the warning that trial ``number`` gave the stopping rule nothing to decide by."""
    name, rule = spec.objectives[0], spec.early_stopping or spec.algorithm
    text = f"{rule} cannot stop trials early: trial {number} reported {name} only once, at its end"
    hint = f"report it at every step, as with kaptain.log_metrics({{{name!r}: ...}}, step=epoch)"
    return Noted(text=text, warning=True, hint=hint)


class StudyWatch:
    """Passes a study's events on and adds a warning where its trials call for one; the same for every tuner.

    Args:
        spec: The study.
        emit: Takes the events.
    """

    def __init__(self, spec: StudySpec, emit: Callable[[Event], None]) -> None:
        self._spec, self._emit = spec, emit
        self._missing = set(spec.objectives[len(spec.deciding) :])  # a trial fails without one that decides
        self._looked = False
        self._values: dict[int, float] = {}

    def emit(self, event: Event) -> None:
        """Pass an event on, and remember which objectives have been reported."""
        self._emit(event)
        if not isinstance(event, TrialChanged) or event.state is not TrialState.SUCCEEDED:
            return
        value = event.latest(self._spec.objectives[0])
        if value is not None:
            self._values[event.number] = value
        self._missing -= set(event.metrics)
        if self._missing and not self._looked:
            names = ", ".join(name for name in self._spec.objectives if name in self._missing)
            self._warn(f"trial {event.number} did not report {names}", "report it, or remove it from the objectives")
        self._looked = True

    def close(self, state: RunState) -> None:
        """Say what is known at the end."""
        spec, values = self._spec, list(self._values.values())
        if self._missing and self._values:
            self._warn(f"no trial reported {', '.join(n for n in spec.objectives if n in self._missing)}", "")
        if state is not RunState.SUCCEEDED or spec.goal is None or spec.trials == 1 or not values:
            return
        if not any(spec.direction.better(spec.goal, value) for value in values):
            sign, other = ("<=", "max") if spec.direction is Direction.MINIMIZE else (">=", "min")
            self._warn(
                f"every trial reached the goal, the first one too: {spec.objectives[0]} {sign} {spec.goal:g}",
                f"if it should not be {spec.direction}d, write --objective {spec.objectives[0]}:{other}",
            )

    def _warn(self, text: str, hint: str) -> None:
        self._emit(Noted(text=text, warning=True, hint=hint))

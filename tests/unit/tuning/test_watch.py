"""What a study's trials say about the study, on every target."""

from __future__ import annotations

import pytest

from kaptain_magics.core.domains import Double
from kaptain_magics.core.events import Event, MetricSummary, Noted, TrialChanged
from kaptain_magics.core.states import Direction, RunState, TrialState
from kaptain_magics.tuning.study_notes import StudyWatch


def trial(number: int, state: TrialState = TrialState.SUCCEEDED, **metrics: float) -> TrialChanged:
    summaries = {name: MetricSummary(value, value, value) for name, value in metrics.items()}
    return TrialChanged(number=number, name=f"t{number}", state=state, parameters={}, metrics=summaries)


def told(studies, *trials: TrialChanged, **changes: object) -> list[str]:
    events: list[Event] = []
    watch = StudyWatch(studies.spec(**{"domains": {"x": Double(0, 1)}, **changes}), events.append)
    for event in trials:
        watch.emit(event)
    watch.close(RunState.SUCCEEDED)
    assert [e for e in events if isinstance(e, TrialChanged)] == list(trials)
    return [event.text for event in events if isinstance(event, Noted)]


def test_an_objective_that_is_only_reported_and_is_not(studies) -> None:
    objectives = ("accuracy", "mae", "f1")
    failed = trial(0, TrialState.FAILED)
    some = told(studies, failed, trial(1, accuracy=1, f1=1), trial(2, accuracy=1, mae=2, f1=1), objectives=objectives)
    assert some == ["trial 1 did not report mae"]
    never = told(studies, trial(0, accuracy=1), trial(1, accuracy=1), objectives=objectives)
    assert never == ["trial 0 did not report mae, f1", "no trial reported mae, f1"]
    assert told(studies, trial(0, accuracy=1, mae=1, f1=1), objectives=objectives) == []


@pytest.mark.parametrize(("direction", "sign"), [(Direction.MINIMIZE, "<="), (Direction.MAXIMIZE, ">=")])
def test_a_goal_that_everything_reaches(studies, direction: Direction, sign: str) -> None:
    goal = 0.99 if direction is Direction.MINIMIZE else 0.1
    said = told(studies, trial(0, accuracy=0.5), goal=goal, direction=direction)
    assert said == [f"every trial reached the goal, the first one too: accuracy {sign} {goal:g}"]
    other = 1.0 if direction is Direction.MINIMIZE else 0.0
    assert told(studies, trial(0, accuracy=other), trial(1, accuracy=0.5), goal=goal, direction=direction) == []
    assert told(studies, trial(0, accuracy=0.5), goal=goal, direction=direction, trials=1) == []

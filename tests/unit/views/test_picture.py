from __future__ import annotations

import base64
import math
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.views import picture
from kaptain_magics.views.fold import StudyView, view_of
from tests.unit.views import stories
from tests.unit.views.test_fold import fold, trial


def study_of(
    home: Path, *values: float, direction: Direction = Direction.MAXIMIZE, goal: float | None = None
) -> StudyView:
    view = view_of(stories.study(home, trials=len(values), direction=direction, goal=goal))
    assert isinstance(view, StudyView)
    for number, value in enumerate(values):
        view.take(trial(number, value))
    return view


def test_a_chart_is_well_formed_and_has_every_part(home: Path) -> None:
    view = fold(stories.tuned(home, 60))
    assert isinstance(view, StudyView)
    root = ElementTree.fromstring(picture.chart(view))
    kinds = [child.tag.rpartition("}")[2] for child in root]
    assert kinds.count("circle") == 1
    assert "goal 0.99" in [child.text for child in root]
    dots = next(child for child in root if child.get("stroke-linecap") == "round")
    assert (dots.get("d") or "").count("h0") == 54


def test_no_values_no_chart(home: Path) -> None:
    view = view_of(stories.study(home))
    assert isinstance(view, StudyView)
    assert picture.chart(view) == ""
    view.take(trial(0, state=TrialState.FAILED))
    assert picture.chart(view) == ""


def test_one_diverged_trial_does_not_flatten_the_others(home: Path) -> None:
    values = [0.5 + 0.01 * i for i in range(20)]
    frame = picture.frame_of(study_of(home, *values, -1e9))
    assert frame is not None
    assert frame.low > -2
    assert frame.y(-1e9) == frame.y(frame.low)
    assert picture.chart(study_of(home, *values, -1e9)).count("l3 5l3 -5") == 1  # an arrowhead shows where it is
    frame = picture.frame_of(study_of(home, *values, 1e9, direction=Direction.MINIMIZE))
    assert frame is not None
    assert frame.high < 3


@pytest.mark.parametrize("values", [(1.0,), (0.0, 0.0, 0.0), (5.0, 5.0), (1e-12, 2e-12), (-3e8, 4e8), (math.inf, 1.0)])
def test_any_values_make_a_chart(home: Path, values: tuple[float, ...]) -> None:
    ElementTree.fromstring(picture.chart(study_of(home, *values)))


def test_a_goal_far_away_is_left_out(home: Path) -> None:
    near = picture.frame_of(study_of(home, 0.5, 0.6, goal=0.62))
    far = picture.frame_of(study_of(home, 0.5, 0.6, goal=100.0))
    assert near is not None
    assert far is not None
    assert near.goal == 0.62
    assert far.goal is None


def test_the_running_best() -> None:
    points = [(0, 0.5), (1, 0.4), (2, 0.7), (3, 0.7), (4, 0.9)]
    assert picture.running_best(points, Direction.MAXIMIZE) == [(0, 0.5), (2, 0.7), (4, 0.9)]
    assert picture.running_best(points, Direction.MINIMIZE) == [(0, 0.5), (1, 0.4)]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e9))
def test_ticks_are_round_few_and_inside(place: float, span: float) -> None:
    low, high = place * span, place * span + span
    found = picture.ticks(low, high, 4)
    assert len(found) <= 9
    assert all(low - span * 1e-3 <= value <= high + span * 1e-3 for value in found)
    labels = [label for _, label in picture.labelled(found)]
    assert len(set(labels)) == len(labels)


def test_five_thousand_trials_stay_small_and_fast(home: Path) -> None:
    view = study_of(home, *(math.sin(i) for i in range(5000)))
    begun = time.perf_counter()
    svg = picture.chart(view)
    assert time.perf_counter() - begun < 5
    assert len(svg) < 60_000
    ElementTree.fromstring(svg)


def test_a_sparkline() -> None:
    assert picture.sparkline([(0, 1.0), (1, 2.0)]) == ""
    assert picture.sparkline([(0, math.nan), (1, 2.0), (2, math.inf), (3, 1.0)]) == ""
    ElementTree.fromstring(picture.sparkline([(0, 1.0), (1, math.nan), (2, 3.0), (3, 2.0)]))
    ElementTree.fromstring(picture.sparkline([(0, 1.0)] * 5))


def test_a_data_uri_holds_the_picture() -> None:
    kind, _, data = picture.data_uri("<svg>é</svg>").partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == "<svg>é</svg>"

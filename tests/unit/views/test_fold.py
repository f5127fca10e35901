from __future__ import annotations

from pathlib import Path

import msgspec

from kaptain_magics.core.events import (
    EndpointChanged,
    LogWritten,
    MetricReported,
    MetricSummary,
    Noted,
    StateChanged,
    TrialChanged,
)
from kaptain_magics.core.states import Direction, EndpointState, RunState, TrialState
from kaptain_magics.views import text
from kaptain_magics.views.fold import EndpointView, MetricHistory, RunView, StudyView, view_of
from tests.unit.views import stories


def fold(run: stories.Run) -> RunView:
    view = view_of(run)
    for event in run.follow(tick=0.0):
        if event is None:
            break
        view.take(event)
    return view


def study_view(home: Path, **options: object) -> StudyView:
    view = view_of(stories.study(home, **options))
    assert isinstance(view, StudyView)
    return view


def trial(
    number: int, value: float | None = None, state: TrialState = TrialState.SUCCEEDED, **more: object
) -> TrialChanged:
    metrics = {} if value is None else {"accuracy": MetricSummary(value, value, value)}
    return TrialChanged(number=number, name=f"t{number}", state=state, parameters={}, metrics=metrics, time=1.0, **more)


def test_a_training_run(home: Path) -> None:
    view = fold(stories.trained(home))
    assert (view.state, view.kind, view.model_id, view.target) == (RunState.SUCCEEDED, "train", "dev/mnist", "local")
    assert abs(view.elapsed(0) - 2.4) < 1e-6
    assert view.artifact is not None
    assert view.artifact.uri == stories.MODEL_URI
    summary = view.metrics["accuracy"].summary
    assert summary is not None
    assert summary.latest == 0.9688542825361512
    assert "Model accuracy: 0.9688542825361512" in view.log.last(20)


def test_a_failed_run_has_its_reason_hint_and_warnings(home: Path) -> None:
    view = fold(stories.failed(home))
    assert view.state is RunState.FAILED
    assert "ZeroDivisionError" in view.reason
    assert view.hint
    assert [w.text for w in view.warnings] == ["the disk is almost full"]


def test_elapsed_time_runs_until_the_end(home: Path) -> None:
    view = view_of(stories.training(home))
    assert view.elapsed(100.0) == 0.0
    view.take(Noted(text="waiting", time=10.0))
    assert view.elapsed(12.0) == 2.0
    view.take(StateChanged(state=RunState.RUNNING, time=15.0))
    assert view.elapsed(18.0) == 8.0
    view.take(StateChanged(state=RunState.STOPPED, time=20.0, reason="asked for"))
    assert view.elapsed(99.0) == 10.0


def test_facts_reported_twice_do_no_harm(home: Path) -> None:
    view = study_view(home)
    for _ in range(2):
        view.take(trial(0, state=TrialState.RUNNING))
        view.take(trial(0, 0.5, best=True))
    assert view.finished == 1
    assert view.counts[TrialState.RUNNING] == 0
    assert view.counts[TrialState.SUCCEEDED] == 1


def test_the_best_trial_and_the_ranking(home: Path) -> None:
    view = study_view(home)
    for event in (
        trial(0, 0.5, best=True),
        trial(1, state=TrialState.FAILED, reason="no"),
        trial(2, 0.9, best=True),
        trial(3, 0.7),
        trial(4, float("nan")),
        trial(5, 0.99, state=TrialState.RUNNING),
    ):
        view.take(event)
    assert view.best is not None
    assert view.best.number == 2
    assert [t.number for t in view.ranked()] == [2, 3, 0, 1, 4, 5]
    assert view.changed == {0, 1, 2, 3, 4, 5}


def test_a_study_that_minimizes_ranks_the_other_way(home: Path) -> None:
    view = study_view(home, direction=Direction.MINIMIZE)
    for number, value in enumerate((0.5, 0.1, 0.9)):
        view.take(trial(number, value))
    assert [t.number for t in view.ranked()] == [1, 0, 2]


def test_a_new_best_marks_the_old_one_as_changed(home: Path) -> None:
    view = study_view(home)
    view.take(trial(0, 0.5, best=True))
    view.changed.clear()
    view.take(trial(1, 0.6, best=True))
    assert view.changed == {0, 1}


def test_an_endpoint_and_the_tutorial_s_table(home: Path) -> None:
    view = fold(stories.deployed(home))
    assert isinstance(view, EndpointView)
    assert view.endpoint is not None
    assert view.endpoint.url == stories.URL
    lines = view.log.last(3)
    assert lines[0] == "NAME                 READY      PREV                      LATEST                    URL"
    assert lines[1] == "dev-mnist            Unknown"
    assert lines[2] == f"{'dev-mnist':<20} {'True':<10} {'0':<25} {'100':<25} {stories.URL.partition('/v2')[0]}"


def test_a_canary_shows_both_shares(home: Path) -> None:
    view = view_of(stories.deployment(home))
    traffic = {"a" * 32: 80, stories.REVISION: 20}
    view.take(EndpointChanged(name="dev-mnist", state=EndpointState.READY, url="http://x", traffic=traffic, time=1.0))
    assert view.log.last(1)[0].split() == ["dev-mnist", "True", "80", "20", "http://x"]


def test_a_gap_in_the_log_is_reported(home: Path) -> None:
    view = view_of(stories.training(home))
    view.take(LogWritten(start=0, end=1_000_000, text="the end\n", time=1.0))
    assert view.log.last(5) == ["… 977 KiB of the log are not shown here …", "the end"]
    assert view.log_bytes == 1_000_000


def test_a_metric_s_course_is_bounded_and_covers_the_whole_run() -> None:
    course = MetricHistory()
    for step in range(100_000):
        course.take(MetricReported(name="loss", value=float(step), step=step))
    assert len(course.points) < 240
    assert course.points[0] == (0, 0.0)
    assert course.points[-1][0] > 99_000
    assert course.summary == MetricSummary(0.0, 99_999.0, 99_999.0)


def test_work_per_event_does_not_grow(home: Path) -> None:
    """10,000 trials: nothing is done over for the earlier ones (counted by the copies of the dictionary of trials)."""
    view = study_view(home, trials=10_000)

    class Counting(dict[int, TrialChanged]):
        walks = 0

        def __iter__(self) -> object:  # type: ignore[override]
            Counting.walks += 1
            return super().__iter__()

    view.trials = Counting()
    template = trial(0, 0.5)
    for number in range(10_000):
        view.take(msgspec.structs.replace(template, number=number))
    assert Counting.walks == 0
    assert view.finished == 10_000


def test_of_several_objectives_the_pareto_set_comes_first(home: Path) -> None:
    view = study_view(home, objectives=("accuracy", "latency"))
    for number, (accuracy, latency) in enumerate([(0.5, 2.0), (0.4, 3.0), (0.9, 9.0), (0.5, 1.0)]):
        metrics = {"accuracy": MetricSummary.of(accuracy), "latency": MetricSummary.of(latency)}
        view.take(msgspec.structs.replace(trial(number), metrics=metrics))
        view.take(msgspec.structs.replace(trial(number), metrics=metrics))
    assert [t.number for t in view.ranked()] == [2, 3, 0, 1]
    assert view.best is not None
    assert view.best.number == 2
    assert [view.is_best(t) for t in view.ranked()] == [True, True, False, False]
    table = text.trials_table(view).splitlines()
    assert table[0].split()[:4] == ["trial", "state", "accuracy", "latency"]
    assert table[1].split()[:4] == ["2*", "succeeded", "0.9", "9"]
    assert ("Pareto set", "trials 2, 3; below the one best in accuracy") in text.facts(view)

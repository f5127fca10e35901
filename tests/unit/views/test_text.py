from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.events import LogWritten, MetricSummary, Noted, StateChanged, TrialChanged
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.views import formats, text
from kaptain_magics.views.fold import StudyView, view_of
from kaptain_magics.views.lines import LogTail
from tests.unit.views import stories
from tests.unit.views.test_fold import fold


@pytest.fixture(autouse=True)
def _tutorial_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Etc/GMT-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Recorded:
    """A status line that remembers its texts."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.kept: list[str] = []

    def show(self, line: str) -> None:
        self.lines.append(line)

    def clear(self) -> None:
        pass

    def keep(self, line: str) -> None:
        self.kept.append(line)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9688542825361512, "0.96885"), (12, "12"), (3.0, "3"), (1e-5, "1e-05"), (float("nan"), "nan"), (1e9, "1e+09")],
)
def test_numbers(value: float, shown: str) -> None:
    assert formats.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (65, "1 min 05 s"),
        (7380, "2 h 03 min"),
        (-1, "0.00 s"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert formats.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(512, "512 B"), (345_000, "337 KiB"), (1_500_000, "1.4 MiB"), (5e12, "4.5 TiB")]
)
def test_sizes(count: float, shown: str) -> None:
    assert formats.size(count) == shown


def test_the_tutorial_s_log_line() -> None:
    line = formats.log_line(stories.BEGIN, "Model training is completed.")
    assert line == "2021-12-10 19:29:31,544 kaptain-log[INFO]: Model training is completed."
    assert formats.log_line(stories.BEGIN + 0.4558, "x").startswith("2021-12-10 19:29:32,000 ")


def test_the_tutorial_s_progress_line(home: Path) -> None:
    view = view_of(stories.study(home))
    assert isinstance(view, StudyView)
    view.take(StateChanged(state=RunState.RUNNING, time=100.0))
    for number in range(12):
        metrics = {"accuracy": MetricSummary(0.9, 0.9666, 0.9666)}
        view.take(
            TrialChanged(
                number=number, name="t", state=TrialState.SUCCEEDED, parameters={}, metrics=metrics, best=not number
            )
        )
    assert text.progress_line(view, 165.0) == (
        "Progress: 100%|█████████████████████████|12/12 "
        "[time: 01:05, accuracy: 0.9666, trials running: 0, pending: 0, failed: 0, killed: 0]"
    )


def test_the_best_parameters_are_written_as_a_magic_takes_them() -> None:
    best = TrialChanged(
        number=3, name="t", state=TrialState.SUCCEEDED, parameters={"gamma": 0.0009033059385183185, "kernel": "rbf"}
    )
    assert text.parameters_line(best) == "gamma=0.0009033059385183185 kernel=rbf"


def test_a_short_result(home: Path) -> None:
    view = fold(stories.trained(home))
    first, *rest = text.result(view, 0).splitlines()
    assert first.startswith("train dev/mnist on local: succeeded in 2.4 s (mnist-job-17921389, run ")
    assert rest == ["  accuracy  0.96885", f"  model     {stories.MODEL_URI} (337 KiB)"]


def test_a_result_of_a_failure_says_why_and_what_next(home: Path) -> None:
    lines = text.result(fold(stories.failed(home)), 0).splitlines()
    assert lines[1:] == [
        "  the script ended with exit code 1: ZeroDivisionError: <b>zero</b>",
        "  the last lines of the log have the cause",
    ]


def test_a_result_of_an_endpoint_has_its_address_and_a_line_to_try(home: Path) -> None:
    shown = text.result(fold(stories.deployed(home)), 0)
    assert f"URL       {stories.URL}" in shown
    assert f"curl -s {stories.URL} -H 'Content-Type: application/json' -d @input.json" in shown


def test_the_twin_of_a_study_has_failed_trials_with_their_reason(home: Path) -> None:
    view = fold(stories.tuned(home, 60))
    shown = text.card(view, 0)
    assert shown.startswith("Progress: 100%|")
    assert "failed" in shown
    assert "exit code 1: ValueError: C <= 0" in shown
    assert "… and 46 more trials" in shown
    assert len(shown) < 6000


def test_the_twin_of_a_running_run_says_how_to_attach(home: Path) -> None:
    run = stories.progress(home)
    assert text.card(fold(run), stories.BEGIN).endswith(f"%kaptain attach {run.run_id} shows it again")


def test_a_screen_prints_every_line_once_and_then_the_result(home: Path) -> None:
    run = stories.training(home)
    view, out, status = view_of(run), io.StringIO(), Recorded()
    screen = text.TextRenderer(out, status)
    view.take(StateChanged(state=RunState.RUNNING, time=stories.BEGIN))
    view.take(LogWritten(text="one\ntwo\n50%", end=11, time=stories.BEGIN))
    screen.draw(view)
    screen.draw(view)
    assert out.getvalue() == "one\ntwo\n"
    assert status.lines == ["50%", "50%"]
    view.take(LogWritten(text="\r100%", start=11, end=16, time=stories.BEGIN))
    view.take(StateChanged(state=RunState.FAILED, reason="it broke", time=stories.BEGIN + 1))
    screen.finish(view)
    lines = out.getvalue().splitlines()
    assert lines[2] == "100%"
    assert lines[3] == "2021-12-10 19:29:32,544 kaptain-log[ERROR]: it broke"
    assert lines[4].startswith("train dev/mnist on local: failed in 1.0 s")


def test_a_study_on_a_screen(home: Path) -> None:
    view, out, status = fold(stories.tuned(home)), io.StringIO(), Recorded()
    text.TextRenderer(out, status).finish(view)
    assert status.kept[0].startswith("Progress: 100%|█████████████████████████|12/12 [time: 01:05, accuracy: 0.9599,")
    assert (
        out.getvalue().splitlines()[0].endswith("kaptain-log[INFO]: Experiment mnist-tune-0174088b has been created.")
    )
    assert "best trial  mnist-tune-0174088b-" in out.getvalue()


def test_lines_that_came_too_fast_are_counted(home: Path) -> None:
    view, out = view_of(stories.training(home), LogTail(lines=10)), io.StringIO()
    view.take(LogWritten(text="".join(f"{i}\n" for i in range(1000)), time=1.0))
    text.TextRenderer(out, Recorded()).draw(view)
    assert out.getvalue().splitlines() == ["… 990 lines are not shown here …", *map(str, range(990, 1000))]


def test_a_budget_bounds_what_is_printed_and_the_end_is_still_shown(home: Path) -> None:
    run = stories.training(home)
    view, out = view_of(run), io.StringIO()
    screen = text.TextRenderer(out, Recorded(), budget=100)
    for block in range(1000):
        view.take(LogWritten(text="".join(f"line {block}.{i}\n" for i in range(50)), time=1.0))
        screen.draw(view)
    view.take(StateChanged(state=RunState.SUCCEEDED, time=2.0))
    screen.finish(view)
    lines = out.getvalue().splitlines()
    assert len(lines) < 130
    assert f"… the log is longer: %kaptain logs {run.run_id} shows all of it; its end follows" in lines
    assert "line 999.49" in lines


def test_a_terminal_that_cannot_show_a_letter_gets_another(home: Path) -> None:
    view = view_of(stories.training(home))
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    view.take(Noted(text="café \u2713", time=1.0))
    text.TextRenderer(out, Recorded()).draw(view)
    assert raw.getvalue().rstrip().endswith(b"caf? ?")


def test_status_lines_in_a_terminal_and_in_a_pipe() -> None:
    out = io.StringIO()
    terminal = text.TerminalStatus(out)
    terminal.show("x" * 10_000)
    terminal.keep("done")
    assert len(out.getvalue()) < 1000
    assert out.getvalue().endswith("\r\x1b[2Kdone\n")
    out = io.StringIO()
    pipe = text.PlainStatus(out)
    pipe.show("1")
    pipe.clear()
    pipe.keep("2")
    assert out.getvalue() == "2\n"


def test_colours_end_with_their_line(home: Path) -> None:
    view, out = view_of(stories.training(home), LogTail(colours=True)), io.StringIO()
    view.take(LogWritten(text="\x1b[31mred\n", time=1.0))
    text.TextRenderer(out, Recorded()).draw(view)
    assert out.getvalue() == "\x1b[31mred\x1b[0m\n"


def test_failures_are_counted_by_reason(home: Path) -> None:
    view = fold(stories.tuned(home, 60))
    assert isinstance(view, StudyView)
    first = next(t for t in view.trials.values() if t.state is TrialState.FAILED)
    view.take(msgspec.structs.replace(first, reason="another"))
    assert text.failures(view) == [("exit code 1: ValueError: C <= 0", 5), ("another", 1)]


def test_the_progress_comes_before_the_report_of_its_end(home: Path) -> None:
    out = io.StringIO()
    view = view_of(stories.study(home, 1))
    screen = text.TextRenderer(out, text.PlainStatus(out))
    view.take(Noted(text="Experiment mnist-tune-0174088b has been created.", time=stories.BEGIN))
    begun, ended, _ = stories.trial_events(0)
    view.take(begun)
    screen.draw(view)
    view.take(ended)
    screen.draw(view)
    view.take(Noted(text="Model tuning completed, final status: Succeeded", time=stories.BEGIN))
    screen.draw(view)
    view.take(StateChanged(state=RunState.SUCCEEDED, reason="all trials are done: 1", time=stories.BEGIN + 9))
    screen.finish(view)
    lines = out.getvalue().splitlines()
    assert "created" in lines[0]
    assert lines[1].startswith("Progress: 100%")
    assert "completed" in lines[2]
    assert out.getvalue().count("Progress") == 1
    assert "  ended       all trials are done: 1" in lines

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics import views
from kaptain_magics.core.events import AnyEvent, LogWritten, MetricReported, StateChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import NotFoundError
from kaptain_magics.views import live
from kaptain_magics.views.base import Mode
from kaptain_magics.views.fold import RunView
from kaptain_magics.views.lines import LogTail
from tests.unit.views import stories

STATE = {"run": StateChanged(state=RunState.RUNNING), "end": StateChanged(state=RunState.SUCCEEDED)}


class Recorder:
    """A screen that counts."""

    interval = 0.25

    def __init__(self) -> None:
        self.drawn: list[float] = []
        self.finished: list[RunState] = []

    def draw(self, view: RunView) -> None:
        self.drawn.append(time.monotonic())

    def finish(self, view: RunView) -> None:
        self.finished.append(view.state)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(live, "_renderer", lambda mode: (recorder, LogTail()))
    return recorder


def test_an_ended_run_is_drawn_once_in_its_lasting_form(home: Path, screen: Recorder) -> None:
    run = stories.trained(home)
    views.follow(run, mode=Mode.HTML)
    assert screen.drawn == []
    assert screen.finished == [RunState.SUCCEEDED]


def test_a_flood_of_events_is_drawn_four_times_a_second_at_most(home: Path, screen: Recorder) -> None:
    class Flood(stories.Run):
        def follow(self, after: int = 0, tick: float | None = None) -> Iterator[AnyEvent | None]:
            until, number = time.monotonic() + 1.5, 0
            while time.monotonic() < until:
                number += 1
                yield MetricReported(name="loss", value=1.0, seq=number, time=1.0)
            yield StateChanged(state=RunState.SUCCEEDED, seq=number + 1, time=2.0)

    views.follow(Flood(stories.training(home).folder), mode=Mode.HTML)
    assert 1 <= len(screen.drawn) <= 7
    assert all(later - earlier >= 0.249 for earlier, later in zip(screen.drawn, screen.drawn[1:], strict=False))
    assert screen.finished == [RunState.SUCCEEDED]


def test_following_sees_what_another_thread_tells(home: Path, screen: Recorder) -> None:
    run = stories.training(home).tell(STATE["run"])

    def tell() -> None:
        while not screen.drawn:
            time.sleep(0.01)
        run.tell(LogWritten(text="late\n"), STATE["end"])

    thread = threading.Thread(target=tell)
    thread.start()
    views.follow(run, mode=Mode.HTML)
    thread.join()
    assert screen.finished == [RunState.SUCCEEDED]


class Interrupted(stories.Run):
    """Its first follower is interrupted after two events."""

    interrupts = 1

    def follow(self, after: int = 0, tick: float | None = None) -> Iterator[AnyEvent | None]:
        for event in super().follow(after, tick):
            yield event
            if event is not None and event.seq >= 2 and self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt


def test_an_interrupt_leaves_the_run_alone_and_the_view_at_its_last_state(home: Path, screen: Recorder) -> None:
    run = Interrupted(stories.training(home).tell(STATE["run"], LogWritten(text="x\n")).folder)
    with pytest.raises(KeyboardInterrupt):
        views.follow(run, mode=Mode.HTML)
    assert screen.finished == [RunState.RUNNING]


def test_an_interrupt_that_stops_the_run_shows_it_until_it_has_stopped(home: Path, screen: Recorder) -> None:
    run = Interrupted(stories.training(home).tell(STATE["run"], LogWritten(text="x\n")).folder)

    def stop() -> None:
        run.tell(StateChanged(state=RunState.STOPPED, reason="interrupted"))

    with pytest.raises(KeyboardInterrupt):
        views.follow(run, mode=Mode.HTML, interrupted=stop)
    assert screen.finished == [RunState.STOPPED]


def test_a_run_that_is_removed_ends_the_view(home: Path, screen: Recorder) -> None:
    import shutil

    run = stories.training(home).tell(STATE["run"])
    shutil.rmtree(run.folder.path)
    with pytest.raises(NotFoundError):
        views.follow(run, mode=Mode.HTML)
    assert len(screen.finished) == 1


def test_watching_returns_at_once_and_goes_on_behind(home: Path, screen: Recorder) -> None:
    run = stories.training(home).tell(STATE["run"])
    views.watch(run, mode=Mode.HTML)
    assert len(screen.drawn) == 1
    assert screen.finished == []
    run.tell(STATE["end"])
    _join_watchers()
    assert screen.finished == [RunState.SUCCEEDED]


def test_watching_a_run_that_is_removed_ends_quietly(home: Path, screen: Recorder) -> None:
    import shutil

    run = stories.training(home).tell(STATE["run"])
    views.watch(run, mode=Mode.HTML)
    shutil.rmtree(run.folder.path)
    _join_watchers()
    assert screen.finished == [RunState.RUNNING]


def test_watching_an_ended_run_starts_nothing(home: Path, screen: Recorder) -> None:
    before = threading.active_count()
    views.watch(stories.trained(home), mode=Mode.HTML)
    assert threading.active_count() == before
    assert screen.finished == [RunState.SUCCEEDED]


def test_watching_in_a_terminal_says_how_to_attach(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = stories.training(home).tell(STATE["run"])
    views.watch(run)
    assert capsys.readouterr().out.endswith(f"%kaptain attach {run.run_id} shows it again\n")


def test_the_result_of_a_running_run_is_its_state_so_far(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = stories.progress(home)
    views.show_result(run)
    shown = capsys.readouterr().out
    assert "epoch  39" in shown
    assert "val_accuracy  0.95662" in shown
    assert f"%kaptain attach {run.run_id}" in shown


def test_text_is_the_mode_outside_of_notebooks() -> None:
    assert views.mode_here() is Mode.TEXT


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, Mode.HTML),
        ({"JPY_SESSION_NAME": "a.ipynb"}, Mode.WIDGET),
        ({"VSCODE_PID": "1"}, Mode.WIDGET),
        ({"VSCODE_PID": "1", "KAPTAIN_VIEW": "html"}, Mode.HTML),
        ({"KAPTAIN_VIEW": "text"}, Mode.TEXT),
        ({"KAPTAIN_VIEW": "hologram"}, Mode.HTML),
    ],
)
def test_the_mode_of_a_kernel(environment: dict[str, str], mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*live._BROWSERS, "KAPTAIN_VIEW"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(live, "in_notebook", lambda: True)
    assert views.mode_here() is mode


@pytest.mark.interpreter
def test_a_terminal_shows_the_whole_story(home: Path) -> None:
    """A real terminal: the log as it came, the progress bar in place, colours kept, the result last."""
    stories.tuned(home)
    code = (
        "import os; from pathlib import Path;"
        "from kaptain_magics import views; from kaptain_magics.state import RunStore;"
        "from tests.unit.views.stories import Run;"
        "views.follow(Run(RunStore(Path(os.environ['KAPTAIN_HOME'])).folders()[0]))"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(60) == 0, shown.decode()
    lines = shown.decode().replace("\r\n", "\n").splitlines()
    assert any("Experiment mnist-tune-0174088b has been created." in line for line in lines)
    assert any(
        "Progress: 100%|█████████████████████████|12/12 [time: 01:05, accuracy: 0.9599" in line for line in lines
    )
    assert any("best trial  mnist-tune-0174088b-" in line for line in lines)


@pytest.mark.interpreter
def test_following_imports_nothing_heavy(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import kaptain_magics.views;"
        "heavy = {'anywidget', 'ipywidgets', 'tqdm', 'IPython', 'numpy', 'optuna'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _join_watchers() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("kaptain-watch-"):
            thread.join(60)
            assert not thread.is_alive()

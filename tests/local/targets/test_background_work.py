"""Work in a thread: its lines as events while it goes on, its result or error, and its end when the caller is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from kaptain_magics.core.events import Event, Noted
from kaptain_magics.errors import ImageError
from kaptain_magics.images.progress import CancelledError, Progress, run_process
from kaptain_magics.targets.background import in_background


def test_lines_come_while_the_work_goes_on() -> None:
    seen = threading.Event()

    def work(progress: Progress) -> int:
        progress("first")
        assert seen.wait(5)  # only who was shown the first line lets it go on
        progress("")
        progress("second")
        return 7

    running = in_background(work)
    assert next(running) == Noted(text="first")
    seen.set()
    assert next(running) == Noted(text="second")
    with pytest.raises(StopIteration) as end:
        next(running)
    assert end.value.value == 7


def test_an_error_is_raised_where_the_result_is_wanted() -> None:
    def work(progress: Progress) -> None:
        progress("trying")
        raise ImageError("no such image")

    running = in_background(work)
    assert next(running) == Noted(text="trying")
    with pytest.raises(ImageError, match="no such image"):
        next(running)


def _sleeping(ended: list[float]) -> Callable[[Progress], None]:
    def work(progress: Progress) -> None:
        try:
            run_process(["sleep", "60"], progress)
        finally:
            ended.append(time.monotonic())

    return work


@pytest.mark.interpreter
def test_cancelling_ends_a_silent_process_at_once() -> None:
    ended: list[float] = []
    since = time.monotonic()
    running = in_background(_sleeping(ended), lambda: time.monotonic() > since + 0.5)
    with pytest.raises(CancelledError):
        next(running)
    assert ended[0] - since < 3.0


def test_work_ends_when_nobody_reads_any_further() -> None:
    ended: list[float] = []

    def work(progress: Progress) -> None:
        progress("begun")
        _sleeping(ended)(progress)

    def first() -> Event:
        running = in_background(work)
        event = next(running)
        running.close()
        return event

    assert first() == Noted(text="begun")
    assert ended

"""What a kernel does about its idle moments: nothing while cells follow each other, nothing when it is turned off."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from kaptain_magics.magics import prewarm
from kaptain_magics.magics.prewarm import Prewarm


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The starts of workers, of which there are none really."""
    starts: list[Any] = []
    monkeypatch.setattr(Prewarm, "_start", lambda self, *asked: starts.append(asked))
    monkeypatch.setattr(prewarm, "_QUIET", 0.05)
    monkeypatch.setenv("KAPTAIN_PREWARM", "true")
    return starts


def idle_moments(**settings: Any) -> Prewarm:
    return Prewarm(SimpleNamespace(user_ns={}), lambda: settings)


def test_cells_that_follow_each_other_leave_no_quiet_moment(started: list[Any]) -> None:
    moments = idle_moments()
    for _ in range(3):
        moments.cell_begins()
        moments.cell_ended()
    moments.cell_begins()
    time.sleep(0.2)
    assert started == []


def test_a_quiet_moment_starts_it_once(started: list[Any]) -> None:
    moments = idle_moments(target=None, warm=True)
    moments.cell_ended()
    timer = moments._timer
    assert timer is not None
    timer.join()
    assert [settings for _, settings in started] == [{"warm": True}]


@pytest.mark.parametrize("variable", ["KAPTAIN_PREWARM", "KAPTAIN_WARM"])
def test_a_variable_turns_it_off(started: list[Any], monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "off")
    moments = idle_moments()
    moments.cell_ended()
    assert moments._timer is None


def test_a_setting_turns_it_off_and_stands_above_the_variable(started: list[Any]) -> None:
    moments = idle_moments(prewarm=False)
    moments.cell_ended()
    assert moments._timer is None


def test_nothing_is_readied_in_a_job(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_JOB", "0" * 32)
    moments = idle_moments()
    moments.cell_ended()
    assert moments._timer is None

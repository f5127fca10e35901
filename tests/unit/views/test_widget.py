from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.events import LogWritten, StateChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.views.fold import RunView, view_of
from kaptain_magics.views.widget import Card, CardDiff
from tests.unit.views import stories
from tests.unit.views.test_fold import fold


class Wire:
    """Stands for the connection to the page: a model there that merges what it is sent."""

    def __init__(self, card: Card) -> None:
        self.model: dict[str, Any] = json.loads(json.dumps(card.get_state()))
        self.bytes = len(json.dumps(self.model))
        self.messages = 0

    def send(self, data: dict[str, Any], **_: object) -> None:
        message = json.dumps(data)
        self.bytes += len(message)
        self.messages += 1
        assert data["method"] == "update"
        self.model |= json.loads(message)["state"]

    def close(self, *_: object, **__: object) -> None:
        pass


def shown_on_a_wire(view: RunView, monkeypatch: pytest.MonkeyPatch) -> tuple[Card, CardDiff, Wire]:
    diff = CardDiff()
    card = Card(diff.parts(view))
    wire = Wire(card)
    monkeypatch.setattr(Card, "comm", wire)
    return card, diff, wire


def log_of(model: dict[str, Any]) -> list[str]:
    """Put the log together as card.js does."""
    newest, opened, _ = model["log"]
    lines: list[str] = []
    for block in range(max(0, newest - 9), newest + 1):
        part = model.get(f"b{block % 10}")
        if part and part[0] == block:
            lines += part[1]
    return [*lines, opened] if opened else lines


def test_only_what_changed_is_sent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = fold(stories.progress(home))
    card, diff, wire = shown_on_a_wire(view, monkeypatch)
    card.push(diff.parts(view))
    assert wire.messages == 0
    view.take(LogWritten(text="one more\n", time=1.0))
    card.push(diff.parts(view))
    assert wire.messages == 1
    assert wire.model["news"] == [1, ["b2", "log"]]
    assert log_of(wire.model)[-1] == "one more"


def test_the_log_on_the_page_is_the_tail_of_the_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(stories.training(home))
    card, diff, wire = shown_on_a_wire(view, monkeypatch)
    total = 0
    for count in (1, 5, 20, 19, 1, 40, 300, 7, 180, 2500, 3):
        view.take(LogWritten(text="".join(f"line {total + i}\n" for i in range(count)) + "open", time=1.0))
        view.log.add("")  # ends the open line
        total = view.log.total
        card.push(diff.parts(view))
        lines = log_of(wire.model)
        assert lines == view.log.last(len(lines))
        assert 180 <= len(lines) <= 200 or len(lines) == total


def test_a_page_that_loads_again_gets_everything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = fold(stories.tuning(home, 30, 10))
    card, diff, wire = shown_on_a_wire(view, monkeypatch)
    begun, ended, _ = stories.trial_events(20)
    view.take(begun)
    card.push(diff.parts(view))
    view.take(ended)
    card.push(diff.parts(view))
    fresh = json.loads(json.dumps(card.get_state()))
    for name in ("head", "body", "study", "frame", "log", *(f"t{n}" for n in (*range(10), 20))):
        assert fresh[name] == wire.model[name]
    assert fresh["now"] > 1e9
    assert set(card.get_state("_esm")) == {"_esm"}


def test_a_study_of_a_thousand_trials_costs_little(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(stories.study(home, 1000))
    card, diff, wire = shown_on_a_wire(view, monkeypatch)
    view.take(StateChanged(state=RunState.RUNNING, time=stories.BEGIN))
    best = -1.0
    for number in range(1000):
        begun, ended, best = stories.trial_events(number, best=best)
        view.take(begun)
        if number % 2:
            card.push(diff.parts(view))
        view.take(ended)
    card.push(diff.parts(view))
    assert wire.messages == 501
    assert wire.bytes < 1_300_000
    assert sum(name[0] == "t" and name[1:].isdigit() for name in wire.model) == 1000


def test_what_is_sent_is_json_even_for_odd_values(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.views.test_fold import trial

    view = view_of(stories.study(home))
    card, diff, wire = shown_on_a_wire(view, monkeypatch)
    view.take(trial(0, float("nan")))
    view.take(trial(1, float("inf")))
    view.take(trial(2, 0.5, reason="long " * 1000))
    card.push(diff.parts(view))
    json.loads(json.dumps(wire.model, allow_nan=False))
    assert len(wire.model["t2"][-1]) <= 300


def test_cards_of_ended_runs_stay_for_a_while_and_then_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is loaded again finds the newest cards; the kernel does not keep them all."""
    from ipywidgets.widgets.widget import _instances

    from kaptain_magics.views import notebook

    monkeypatch.setattr(notebook, "_ended", deque())
    before = len(_instances)
    cards = [Card({}) for _ in range(20)]
    for card in cards:
        notebook._retire(card)
    assert [card.comm is not None for card in cards] == [False] * 12 + [True] * 8
    assert len(_instances) - before == 2 * 8  # a card and its layout
    for card in cards:
        card.close()
    assert len(_instances) == before

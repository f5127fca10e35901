from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.events import (
    ArtifactSaved,
    EndpointChanged,
    LogWritten,
    MetricReported,
    MetricSummary,
    Noted,
    StateChanged,
)
from kaptain_magics.core.states import Direction, EndpointState, RunState
from kaptain_magics.views import html
from kaptain_magics.views.fold import EndpointView, view_of
from tests.unit.views import stories
from tests.unit.views.test_fold import fold, trial

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects tags, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.mark.parametrize("story", [stories.trained, stories.failed, stories.progress, stories.tuned, stories.deployed])
def test_a_card_is_whole_and_needs_no_script(home: Path, story: object) -> None:
    page = Page(html.card(fold(story(home)), stories.BEGIN + 50))  # type: ignore[operator]
    names = {tag for tag, _ in page.tags}
    assert "script" not in names
    assert "svg" not in names
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(a["alt"] for tag, a in page.tags if tag == "img")
    assert all((a["src"] or "").startswith("data:image/svg+xml;base64,") for tag, a in page.tags if tag == "img")


def test_a_card_says_the_short_result(home: Path) -> None:
    page = Page(html.card(fold(stories.trained(home)), 0))
    for part in ("succeeded", "dev/mnist", "0.96885", "2.4 s", stories.MODEL_URI, "337 KiB", "Log · 10 lines"):
        assert part in page.text


def test_a_failure_is_seen_at_once(home: Path) -> None:
    page = Page(html.card(fold(stories.failed(home)), 0))
    assert "ZeroDivisionError: <b>zero</b>" in page.text
    assert "the last lines of the log have the cause" in page.text
    assert "the disk is almost full" in page.text
    assert ("details", {"class": "kpt-log", "open": None}) in page.tags


def test_a_study_s_card_has_chart_best_trial_and_failed_trials(home: Path) -> None:
    page = Page(html.card(fold(stories.tuned(home, 60)), 0))
    assert "60 of 60 trials · 6 failed" in page.text
    assert "★ 42" in page.text
    assert "exit code 1: ValueError: C <= 0" in page.text
    assert "44 more trials" in page.text
    assert [a["alt"] for tag, a in page.tags if tag == "img"] == ["accuracy over 60 trials, the best 0.96495"]


def test_only_the_deciding_objective_is_called_best(home: Path) -> None:
    view = view_of(stories.study(home, direction=Direction.MINIMIZE))
    both = {"accuracy": MetricSummary(0.5, 0.5, 0.5), "latency": MetricSummary(7, 7, 7)}
    view.take(msgspec.structs.replace(trial(0, 0.5, best=True), metrics=both))
    page = Page(html.card(view, 0))
    assert "best accuracy" in page.text
    assert "latency of the best trial" in page.text
    assert "accuracy by trial, lower is better; the line is the best so far" in page.text


def test_an_endpoint_s_card_has_url_and_curl_line(home: Path) -> None:
    page = Page(html.card(fold(stories.deployed(home)), 0))
    for part in ("ready", stories.URL, f"curl -s {stories.URL}", "b7d7f70c", "100 %"):
        assert part in page.text


def test_the_curl_line_of_an_endpoint_with_a_token_takes_it_from_the_environment(home: Path) -> None:
    view = fold(stories.deployed(home))
    assert isinstance(view, EndpointView)
    assert view.endpoint is not None
    assert "Authorization" not in Page(html.card(view, 0)).text
    view.endpoint = msgspec.structs.replace(view.endpoint, needs_token=True)
    assert '-H "Authorization: Bearer $KAPTAIN_TOKEN"' in Page(html.card(view, 0)).text


def test_a_running_run_says_how_to_attach(home: Path) -> None:
    run = stories.progress(home)
    assert f"%kaptain attach {run.run_id}" in Page(html.card(fold(run), stories.BEGIN + 3)).text


def test_nothing_from_outside_becomes_markup(home: Path) -> None:
    run = stories.study(home)
    run.model_id = run.name = run.target = EVIL
    view = view_of(run)
    for event in (
        LogWritten(text=f"{EVIL}\n", time=1.0),
        Noted(text=EVIL, warning=True, hint=EVIL, time=1.0),
        MetricReported(name=EVIL, value=1.0),
        ArtifactSaved(uri=EVIL),
        trial(0, 0.5, best=True),
        trial(1, reason=EVIL),
        StateChanged(state=RunState.FAILED, reason=EVIL, hint=EVIL, time=2.0),
    ):
        view.take(event)
    page = Page(html.card(view, 2.0))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any("onerror" in attributes for _, attributes in page.tags)

    endpoint = view_of(stories.deployment(home))
    endpoint.take(
        EndpointChanged(
            name=EVIL, state=EndpointState.FAILED, url=EVIL, cluster_url=EVIL, reason=EVIL, traffic={EVIL: 1}, time=1.0
        )
    )
    assert "script" not in {tag for tag, _ in Page(html.card(endpoint, 2.0)).tags}


def test_a_card_s_size_is_bounded(home: Path) -> None:
    study = fold(stories.tuned(home, 3000))
    assert len(html.card(study, 0)) < 160_000
    view = view_of(stories.training(home))
    for number in range(200):
        view.take(MetricReported(name=f"metric {number}", value=1.0, time=1.0))
        view.take(LogWritten(text="<" * 5000 + "\n", time=1.0))
    assert len(html.card(view, 0)) < 260_000

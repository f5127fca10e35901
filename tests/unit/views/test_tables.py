from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics import views
from kaptain_magics.core.events import MetricSummary
from kaptain_magics.core.states import EndpointState
from kaptain_magics.model.context import Context
from kaptain_magics.model.history import RunTable, history
from kaptain_magics.state import ModelRecord, Revision
from kaptain_magics.targets.base import Check, EndpointStatus
from kaptain_magics.views import tables
from tests.unit.views import stories
from tests.unit.views.test_html import EVIL, Page


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What a notebook was given."""
    bundles: list[dict[str, str]] = []
    monkeypatch.setattr(tables, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_runs_in_a_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stories.trained(home)
    stories.failed(home)
    views.show_runs(history(Context()))
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["state", "model", "kind", "metrics", "target", "started", "time", "name", "run", "note"]
    assert sorted(row.split()[0] for row in rows) == ["failed", "succeeded"]
    assert any("ZeroDivisionError" in row for row in rows)


def test_runs_in_a_notebook(home: Path, shown: list[dict[str, str]]) -> None:
    stories.trained(home)
    views.show_runs(history(Context()))
    page = Page(shown[0]["text/html"])
    assert "succeeded" in page.text
    assert ("span", {"class": "kpt-chip kpt-succeeded"}) in page.tags
    assert "dev/mnist" in shown[0]["text/plain"]


def test_nothing_yet(shown: list[dict[str, str]]) -> None:
    views.show_runs(RunTable([]))
    views.show_models([])
    views.show_endpoints([])
    assert [bundle["text/plain"].partition(":")[0] for bundle in shown] == [
        "no runs yet",
        "no models yet",
        "no endpoints yet",
    ]


def test_long_lists_are_bounded(home: Path, shown: list[dict[str, str]]) -> None:
    stories.trained(home)
    views.show_runs(RunTable(history(Context()) * 1000))
    assert "… and 900 more" in shown[0]["text/plain"]
    assert len(shown[0]["text/html"]) < 60_000


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    newest = Revision(
        revision=stories.REVISION,
        stage="tuned",
        uri=stories.MODEL_URI,
        run_id="r",
        created=stories.BEGIN,
        framework="sklearn",
        metrics={"accuracy": MetricSummary(0.5, 0.9, 0.9)},
    )
    views.show_models([ModelRecord(model_id="dev/mnist", revisions=(newest,)), ModelRecord(model_id="empty")])
    lines = capsys.readouterr().out.splitlines()
    assert "tuned" in lines[1]
    assert "accuracy=0.9" in lines[1]
    assert lines[2].split() == ["empty", "0"]


def test_revisions_of_a_model(shown: list[dict[str, str]]) -> None:
    old, new = (
        Revision(
            revision=c * 32, stage=stage, uri=f"file:///{c}", run_id=f"run-{c}", created=time.time() - age, size=2048
        )
        for c, stage, age in (("a", "trained", 7200), ("b", "tuned", 0))
    )
    views.show_revisions(ModelRecord(model_id="dev/mnist", revisions=(old, new)), {"file:///a": 70, "file:///c": 30})
    _, first, second = shown[0]["text/plain"].splitlines()
    assert first.split() == ["bbbbbbbb", "tuned", "2.0", "KiB", "just", "now", "run-b", "file:///b"]
    assert second.split()[:9] == ["aaaaaaaa", "trained", "2.0", "KiB", "2", "h", "ago", "deployed", "70%"]
    views.show_revisions(ModelRecord(model_id="dev/none"), {})
    assert "dev/none has no saved model" in shown[1]["text/plain"]


def test_endpoints_without_their_secrets(shown: list[dict[str, str]]) -> None:
    status = EndpointStatus(
        name="dev-mnist",
        state=EndpointState.READY,
        url=stories.URL,
        model_id="dev/mnist",
        traffic={stories.REVISION: 100},
        requests={stories.REVISION: 7},
        headers={"Authorization": "Bearer s3cret"},
    )
    views.show_endpoints([status])
    assert "b7d7f70c:100%" in shown[0]["text/plain"]
    assert "s3cret" not in str(shown)


def test_checks(shown: list[dict[str, str]]) -> None:
    views.show_checks([Check("target", True, "works", "unused"), Check("storage", False, "is away", "start it")])
    lines = shown[0]["text/plain"].splitlines()
    assert lines[1].split() == ["ok", "target", "works"]
    assert lines[2].split() == ["no", "storage", "is", "away", "start", "it"]


def test_cells_are_escaped_and_of_one_line(shown: list[dict[str, str]]) -> None:
    views.show_checks([Check(EVIL, False, "a\nb\x1b[31mc", EVIL)])
    page = Page(shown[0]["text/html"])
    assert "script" not in {tag for tag, _ in page.tags}
    assert "a bc" in page.text


def test_a_text_keeps_its_end(shown: list[dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    views.show_text("".join(f"line {i}\n" for i in range(10_000)))
    plain = shown[0]["text/plain"].splitlines()
    assert plain[0] == "… 5000 lines before these are not shown here …"
    assert plain[-1] == "line 9999"


def test_a_text_in_a_terminal_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    value: Any = "".join(f"line {i}\n" for i in range(10_000))
    views.show_text(value)
    assert capsys.readouterr().out == value

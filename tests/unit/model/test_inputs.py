"""What is sent to jobs elsewhere: said with its size, within limits, without credentials; and what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.config import Settings
from kaptain_magics.core.events import Noted
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Input
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import ScriptError
from kaptain_magics.model import Workspace, inputs
from kaptain_magics.model.inputs import notes_on_changes, notes_on_inputs, with_inputs
from kaptain_magics.script import capture


@pytest.fixture
def context(home: Path) -> Workspace:
    return Workspace(Settings.load({"target": "docker"}))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("rows.csv", "data/a.csv", "data/.env", "data/.aws/config", ".env", "helper.py"):
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 1000)
    return tmp_path / "project"


def job(source: str, folder: Path, **changes: Any) -> JobSpec:
    script = capture(source, folders=[folder])
    options = {"framework": ModelFramework.PYTHON, "run_id": "1", "model_id": "m", "name": "m-job-1"}
    return JobSpec(script=script, **{**options, **changes})


def texts(notes: list[Noted]) -> list[str]:
    return [note.text for note in notes]


def test_what_is_sent_is_said_with_its_size(context: Workspace, project: Path) -> None:
    sent = with_inputs(context, job("import helper\nopen('rows.csv')\nopen('new.csv', 'w')", project))
    assert sent.placed == {"helper.py": str(project / "helper.py"), "rows.csv": str(project / "rows.csv")}
    assert texts(notes_on_inputs(context, sent)) == [
        "Sent with the script, which names it: helper.py (1.0 KiB), rows.csv (1.0 KiB); 2.0 KiB in all. "
        "--isolated sends only what --files names."
    ]


def test_credentials_stay(context: Workspace, project: Path) -> None:
    source = "import os\nos.listdir('data')\nopen('.env')"
    sent = with_inputs(context, job(source, project))
    assert set(sent.placed) == {"data/a.csv"}
    _, left = notes_on_inputs(context, sent)
    assert left.text == "Not sent, for it looks like credentials: .env, data/.env, data/.aws/config"
    named = with_inputs(context, job(source, project, files=(str(project / "data"), str(project / ".env"))))
    assert set(named.placed) == {"data", ".env"}
    assert len(notes_on_inputs(context, named)) == 1


def test_too_much_is_named_first(context: Workspace, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_SENT_BYTES", 2500)
    (project / "data" / "b.csv").write_text("x" * 3000)
    (project / "data" / ".env").unlink()
    (project / "data" / ".aws" / "config").unlink()
    source = "import os\nos.listdir('data')\nopen('rows.csv')"
    with pytest.raises(ScriptError) as caught:
        with_inputs(context, job(source, project))
    assert "names 4.9 KiB in 3 files beside the notebook: data (2 files, 3.9 KiB), rows.csv" in caught.value.message
    assert "--files data," in caught.value.hint
    assert with_inputs(context, job(source, project, files=(str(project / "data"),))).inputs
    assert with_inputs(context, job(source, project, isolated=True)).inputs == ()


def test_a_folder_that_is_looked_through_is_warned_of(context: Workspace, project: Path) -> None:
    sent = with_inputs(context, job("import os\nos.listdir('.')", project))
    assert texts(notes_on_inputs(context, sent)) == [
        "The script looks through the notebook's folder, which is not sent as a whole"
    ]


def test_nothing_is_said_or_limited_where_it_is_read_in_place(
    home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_SENT_BYTES", 1)
    local = Workspace(Settings.load())
    here = with_inputs(local, job("open('rows.csv')\nopen('.env')", project))
    assert {item.path for item in here.inputs} == {"rows.csv", ".env"}
    assert notes_on_inputs(local, here) == []


def test_changes_since_an_earlier_run(project: Path) -> None:
    before = [
        Input(path=name, source=str(project / name), size=1, modified=1)
        for name in ("rows.csv", "gone.csv", "same.csv")
    ]
    now = [Input(path="rows.csv", source="", size=1, modified=2), before[2]]
    changed, gone = notes_on_changes(before, now, "the last train run")
    assert changed.text == "Changed since the last train run: rows.csv. The trials read what is there now"
    assert gone.text == "Not there any more since the last train run: gone.csv"
    assert notes_on_changes(before[2:], now, "it") == []


def test_nothing_is_sent_twice(context: Workspace, project: Path) -> None:
    source = "import os, sys\nsys.path.append('data')\nimport mine\nos.listdir('data')\nopen('data/a.csv', 'a')"
    (project / "data" / ".env").unlink()
    (project / "data" / ".aws" / "config").unlink()
    (project / "data" / "mine.py").write_text("")
    sent = with_inputs(context, job(source, project))
    assert {item.path for item in sent.inputs} == {"data", "data/a.csv", "data/mine.py"}
    assert set(sent.placed) == {"data"}
    (note,) = notes_on_inputs(context, sent)
    assert "names it: data (2 files, 1.0 KiB). --isolated" in note.text.replace("1000 B", "1.0 KiB")

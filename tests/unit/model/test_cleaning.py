"""``clean`` goes on behind what cannot be removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.model import Workspace, cleaning
from kaptain_magics.state.sent_values import SENT, SentValues
from tests.past_runs import plant
from tests.shell import Notebook


@pytest.mark.usefixtures("home")
def test_one_that_cannot_be_removed_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "first")

    def look(_: Workspace) -> object:
        yield cleaning._Leftover("first", refuse)
        yield cleaning._Leftover("second", lambda: removed.append("second"))
        raise OSError(5, "Input/output error", "third")

    monkeypatch.setattr(cleaning, "_folders", look)
    lines = Workspace().clean(force=True)
    assert lines[0].startswith("first: cannot be removed now: ")
    assert lines[1] == "second"
    assert removed == ["second"]
    assert "cannot be checked now" in lines[2]


def _lay(run: Path) -> dict[str, Path]:
    """Lay something of every kind into a run's folder."""
    places = {"work": "work/figure.png", "figures": "displays/1.png", "trials": "trials/0/log.txt", "own": "files/data"}
    paths = {kind: run / name for kind, name in places.items()}
    for path in paths.values():
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 2000)
    return paths


def test_what_is_the_persons_stays_unless_it_is_named(home: Path) -> None:
    run_id = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    paths = _lay(home / "runs" / run_id)
    workspace = Workspace()
    assert f"copies of files for run {run_id} (2.0 KiB)" in workspace.clean()
    workspace.clean(force=True)
    assert {kind: path.exists() for kind, path in paths.items()} == {
        "work": True,
        "figures": True,
        "trials": True,
        "own": False,
    }
    assert cleaning.kept(workspace) == dict.fromkeys(["work", "figures", "trials"], (1, 2000))
    assert workspace.clean(kinds=["figures"]) == [f"figures and tables of run {run_id} (2.0 KiB)"]
    workspace.clean(force=True, kinds=["figures"], older=3600)
    assert paths["figures"].exists()
    workspace.clean(force=True, kinds=["figures", "trials"])
    assert [paths[kind].exists() for kind in ("work", "figures", "trials")] == [True, False, False]


def test_a_running_run_is_left_alone(home: Path) -> None:
    run_id = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    paths = _lay(home / "runs" / run_id)
    events = home / "runs" / run_id / "events.jsonl"
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]))
    workspace = Workspace()
    lock = workspace.folder(run_id).lock
    assert lock.acquire()
    try:
        workspace.clean(force=True, kinds=cleaning.KINDS)
    finally:
        lock.release()
    assert all(path.exists() for path in paths.values())


def test_sent_values_of_earlier_runs_are_cleaned(home: Path) -> None:
    paths = []
    for number in (1, 2):
        run_id = plant(home, number, "a = 1\n", {"accuracy": 0.9})
        SentValues(home).put(b"x" * (1000 + number), home / "runs" / run_id)
        paths.append(home / "runs" / run_id / SENT)
    workspace = Workspace()
    assert [line for line in workspace.clean() if "sent" in line] == [
        "values that were sent to run 20260101-000000-abcdef (1.0 KiB)"
    ]
    workspace.clean(force=True)
    assert [path.exists() for path in paths] == [False, True]
    assert len(list((home / "sent").glob("*.pkl"))) == 1


def test_the_line_says_what_is_kept(notebook: Notebook, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _lay(home / "runs" / plant(home, 1, "a = 1\n", {"accuracy": 0.9}))
    notebook.run("%kaptain clean")
    assert "kept: work of 1 run (2.0 KiB); %kaptain clean work --older 30d" in capsys.readouterr().out
    notebook.run("%kaptain clean work --force")
    assert "removed:\n  files that the script wrote of run" in capsys.readouterr().out
    assert "write one of leftovers, sent, work, figures, trials" in str(notebook.error("%kaptain clean all"))

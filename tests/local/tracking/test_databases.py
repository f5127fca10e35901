"""Where the database of MLflow lies, that it is seen whole, and that a run is in it when its cell is done."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics.config import Settings
from kaptain_magics.core.events import Noted
from kaptain_magics.core.states import RunState
from kaptain_magics.model import Run, Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from tests.shell import Notebook
from tests.waiting import until

SCRIPT = "c = 0.5\nprint(f'accuracy={1 - c * c}')"

_CELLS = """
import IPython
shell = IPython.core.interactiveshell.InteractiveShell.instance()
for cell in (
    "%load_ext kaptain_magics",
    "%%kaptain_train dev/a\\nc = 0.5\\nprint(f'accuracy={1 - c * c}')",
    "import mlflow\\nmlflow.set_tracking_uri('sqlite:///mlflow.db')",
    "trained = mlflow.search_runs(experiment_names=['dev/a'])",
    "%kaptain_tune dev/a c=Discrete([0,1]) --algorithm grid --objective accuracy",
    "tuned = mlflow.search_runs(experiment_names=['dev/a'])",
    "assert list(trained['metrics.accuracy']) == [0.75], trained",
    "assert list(trained['status']) == ['FINISHED'], trained",
    "assert len(tuned) == 4, tuned",  # both runs and two trials
    "places = [e.artifact_location for e in mlflow.search_experiments()]",
    "import os",
    "assert all(place.startswith(os.getcwd() + '/mlruns/') for place in places), places",
):
    shell.run_cell(cell).raise_error()
"""


def test_a_cell_that_searches_finds_the_run_of_the_cell_before(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "notebook"
    folder.mkdir()
    (folder / "kaptain.toml").write_text('[kaptain]\ntracking_uri = "sqlite:///mlflow.db"\n')
    done = subprocess.run(
        [sys.executable, "-c", _CELLS], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in folder.iterdir()} == {"kaptain.toml", "mlflow.db"}
    assert list(home.rglob("mlflow.db")) == []


def test_runs_that_begin_together_are_all_in_a_new_database(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPTAIN_TRACKING_URI", f"sqlite:///{tmp_path / 'together.db'}")
    workspace = Workspace()
    runs: list[Run] = [
        workspace.model(f"dev/together{n}").plan_training(TrainingRequest(script=capture(SCRIPT))).start()
        for n in range(3)
    ]
    for run in runs:
        assert run.wait(120) is RunState.SUCCEEDED, run.reason
    code = (
        "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1])\n"
        "names = [f'dev/together{n}' for n in range(3)]\n"
        "assert len(mlflow.search_runs(experiment_names=names)) == 3"
    )
    subprocess.run([sys.executable, "-c", code, workspace.settings.tracking_uri], check=True, timeout=120)
    assert [event for run in runs for event in run.follow() if isinstance(event, Noted) and event.warning] == []


def test_relative_places_lie_beside_the_file_that_names_them(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "project" / "notebooks"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    beside = tmp_path / "project"
    expected = {
        "sqlite:///mlflow.db": f"sqlite:///{beside}/mlflow.db",
        "sqlite:///../mlflow.db?timeout=30": f"sqlite:///{tmp_path}/mlflow.db?timeout=30",
        "sqlite+pysqlite:///mlflow.db": f"sqlite+pysqlite:///{beside}/mlflow.db",
        "mlruns": f"{beside}/mlruns",
        "./mlruns": f"{beside}/mlruns",
        "file:mlruns": f"file://{beside}/mlruns",
        "file:./mlruns": f"file://{beside}/mlruns",
        "~/mlruns": str(Path.home() / "mlruns"),
    }
    same = (
        "sqlite:////srv/mlflow.db", "sqlite:///:memory:", "/srv/mlruns", "file:///srv/mlruns", "databricks",
        "databricks://me", "http://mlflow:5000", "postgresql://host/mlflow",
    )  # fmt: skip
    for given, wanted in [*expected.items(), *((uri, uri) for uri in same)]:
        (beside / "kaptain.toml").write_text(f'tracking_uri = "{given}"\n')
        assert Settings.load().tracking_uri == wanted
    for wins in ("MLFLOW_TRACKING_URI", "KAPTAIN_TRACKING_URI"):  # else beside the notebook
        (beside / "kaptain.toml").unlink(missing_ok=True)
        monkeypatch.setenv(wins, f"sqlite:///{wins}.db")
        assert Settings.load().tracking_uri == f"sqlite:///{below}/{wins}.db"
    assert Settings.load({"tracking_uri": "sqlite:///line.db"}).tracking_uri == f"sqlite:///{below}/line.db"
    (beside / "kaptain.toml").write_text('registry_certificate = "ca.pem"\ncache = "/srv/cache"\n')
    settings = Settings.load()
    assert (settings.registry_certificate, settings.cache) == (str(beside / "ca.pem"), "/srv/cache")


def test_what_mlflow_did_not_take_is_reported_in_the_cell(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAPTAIN_TRACKING_URI", f"sqlite:///{tmp_path}/no/such/folder/mlflow.db")
    notebook.run(f"%%kaptain_train dev/untracked\n{SCRIPT}")
    shown = capsys.readouterr().out
    assert f"MLflow at sqlite:///{tmp_path}/no/such/folder/mlflow.db could not log run" in shown
    assert notebook.variables["_kaptain"].state is RunState.SUCCEEDED
    assert "check the tracking URI; the run itself is not affected" in shown


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("KAPTAIN_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


def test_an_interrupt_ends_the_wait_for_a_tracker_that_does_not_answer(
    notebook: Notebook, silent: socket.socket
) -> None:
    connections: list[socket.socket] = []

    def interrupt() -> None:
        connections.append(silent.accept()[0])  # the run has ended, and its supervisor asks
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    error = notebook.error(f"%%kaptain_train dev/silent\n{SCRIPT}")
    ended = time.monotonic()
    thread.join()
    assert isinstance(error, KeyboardInterrupt)
    run = notebook.variables["_kaptain"]
    assert run.state is RunState.SUCCEEDED
    assert "succeeded" in str(error)
    assert run.folder.lock.held_by_other()  # it was not waited for
    assert time.monotonic() - ended < 5
    for connection in connections:
        connection.close()
    silent.close()
    until(lambda: not run.folder.lock.held_by_other())

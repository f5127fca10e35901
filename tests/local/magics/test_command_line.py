"""``kaptain-magics`` and ``python -m kaptain_magics``: the same lines without a notebook, with exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kaptain_magics.core.states import RunState
from kaptain_magics.model import Workspace
from tests.waiting import until

SCRIPT = """
from sklearn.dummy import DummyRegressor
level = 1.0
reg = DummyRegressor(strategy="constant", constant=level).fit([[0.0], [1.0]], [0.0, 2.0])
print(reg.score([[0.0], [1.0]], [0.0, 2.0]))
"""
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(home: Path, tmp_path: Path) -> Call:
    """Run a command line in a folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "slow.py").write_text("import time\nprint('started', flush=True)\ntime.sleep(120)\n")

    def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kaptain_magics", *words]
        return subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_a_model_is_trained_tuned_served_and_asked(call: Call) -> None:
    trained = call("train", "train.py", "cron/level", "level=0.5")
    assert trained.returncode == 0, trained.stderr
    assert "saved `reg` (DummyRegressor); r2 -0.25 from `reg.score(" in trained.stdout
    assert "\x1b" not in trained.stdout  # plain without a terminal
    tuned = call("tune", "cron/level", "level=Discrete([0.0, 1.0])", "--trials", "2", "--algorithm", "grid")
    assert tuned.returncode == 0, tuned.stderr
    assert "the objective is r2, the only metric of the last run" in tuned.stdout
    try:
        assert call("deploy", "cron/level").returncode == 0
        assert json.loads(call("predict", "cron/level", "[[3.0], [4.0]]").stdout) == [1.0, 1.0]
        assert json.loads(call("predict", "cron/level", "-", text="[[3.0]]").stdout) == [1.0]
        assert "cron-level" in call("endpoints").stdout
    finally:
        assert "cron-level is taken down" in call("undeploy", "cron/level").stdout
    listed = call("runs")
    assert listed.stdout.count("cron/level") == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("trian train.py cron/x", 2, "kaptain-magics has no command 'trian': did you mean 'train'?"),
        ("train train.py", 2, "NAME is missing: write kaptain-magics train FILE NAME"),
        ("train train.py cron/x --fetch X", 2, "kaptain-magics train has no option --fetch"),
        ("train train.py cron/x levl=2", 1, "did you mean 'level'?"),
        ("train nothing.py cron/x", 1, "there is no file nothing.py"),
        ("deploy cron/never", 1, "train it and save the model: kaptain-magics train FILE cron/never"),
        ("predict cron/never [1]", 1, "there is no endpoint"),
        ("predict cron/never @nothing.json", 2, "@nothing.json cannot be read"),
    ],
)
def test_what_fails_says_so_and_ends_with_a_code(call: Call, words: str, code: int, said: str) -> None:
    done = call(*words.split())
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_view_names_is_the_command(call: Call) -> None:
    detached = call("train", "train.py", "cron/level", "--detach").stdout
    assert "kaptain-magics attach " in detached
    assert "%" not in detached
    assert "succeeded" in call("attach", "cron/level").stdout


def test_a_failed_script_fails_the_command(call: Call, tmp_path: Path) -> None:
    (tmp_path / "here" / "bad.py").write_text("raise ValueError('no data')")
    done = call("train", "bad.py", "cron/bad")
    assert done.returncode == 1
    assert "ValueError: no data" in done.stdout
    assert "the script raised ValueError: no data\nkaptain-magics logs" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run(call: Call, tmp_path: Path, number: int, code: int) -> None:
    command = [sys.executable, "-m", "kaptain_magics", "train", "slow.py", "cron/slow"]
    process = subprocess.Popen(
        command, cwd=tmp_path / "here", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "started\n":
            break
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert "interrupted: " in error
    until(lambda: Workspace().runs()[0].state is RunState.STOPPED, seconds=20, what="the end of the run")


def test_help_and_version_import_little(call: Call) -> None:
    assert call("--version").stdout.startswith("kaptain-magics ")
    everything = call("--help").stdout
    assert all(f"\n  {name} " in everything for name in ("train", "tune", "deploy", "predict", "runs"))
    assert "%kaptain" not in everything
    assert "--cpu CORES" in call("train", "--help").stdout
    code = "import sys; from kaptain_magics.magics.command_line import run; run(['runs']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"IPython", "numpy", "optuna", "kubernetes"} & set(done.stdout.split())


def test_the_overview_stops_where_its_reader_does(call: Call, tmp_path: Path) -> None:
    call("train", "train.py", "cron/level")
    line = f"{sys.executable} -m kaptain_magics runs | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Traceback" not in done.stderr

"""Warm workers that die under their jobs, and what jobs try to leave behind in them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from kaptain_magics.core.domains import Discrete
from kaptain_magics.core.events import Noted
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.processes.idle_workers import idle_workers
from kaptain_magics.script import capture
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.testing.job_rig import Rig, outcome
from tests.waiting import until
from tests.workers import gone

CLEARED = """
import os, pathlib, subprocess, sys, time
daemon = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(daemon, env={}, start_new_session=True)
print(child.pid, flush=True)
"""
WAITS = "while not os.path.exists(GO): time.sleep(0.02)"


@pytest.fixture
def workspace(home: Path, workers: Path) -> Workspace:
    return Workspace()


@pytest.fixture(params=["warm", "fresh"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, workers: Path) -> Rig:
    (tmp_path / "runs").mkdir()
    settings = {"warm": "true" if request.param == "warm" else "false"}
    config = TargetConfig(home=tmp_path, cache=tmp_path / "cache", settings=settings)
    return Rig(name="local", config=config, folder=tmp_path / "runs", uploads=(tmp_path / "storage").as_uri())


def test_a_killed_worker_costs_a_study_no_trial(workspace: Workspace, tmp_path: Path) -> None:
    source = f"""
import os, pathlib, time
x = 0
folder = pathlib.Path({str(tmp_path)!r})
(folder / f"started {{x}} {{os.getpid()}} {{os.getppid()}}").touch()
while not (folder / "go").exists(): time.sleep(0.02)
print("accuracy =", x)
"""
    plan = workspace.model("dev/lost").plan_tuning(
        TuningRequest(
            job=TrainingRequest(script=capture(source)),
            domains={"x": Discrete([1, 2, 3, 4])},
            objectives=["accuracy"],
            trials=4,
            parallel=2,
            failed_trials=1,
            algorithm="grid",
        )
    )
    study = plan.start()
    started = until(lambda: files if len(files := sorted(tmp_path.glob("started *"))) == 2 else None)
    parents = {int(path.name.split()[3]) for path in started}
    for worker in parents:
        os.kill(worker, signal.SIGKILL)
    until(lambda: len(list(tmp_path.glob("started *"))) == 4, what="the lost trials to be run again")
    (tmp_path / "go").touch()
    assert study.wait(60) is RunState.SUCCEEDED, study.reason
    assert [trial.state for trial in study.trials] == [TrialState.SUCCEEDED] * 4
    assert sorted(trial.metrics["accuracy"].latest for trial in study.trials) == [1, 2, 3, 4]
    again = [e for e in study.folder.events() if isinstance(e, Noted) and "run again with the same values" in e.text]
    assert len(again) == 1
    for path in started:
        until(lambda path=path: gone(int(path.name.split()[2])), what="the end of the lost jobs")


def test_what_a_killed_workers_job_left_is_ended(workspace: Workspace) -> None:
    source = """
import os, subprocess, sys, time
daemon = [sys.executable, "-c", "import time; time.sleep(600)"]
print(os.getppid(), subprocess.Popen(daemon, start_new_session=True).pid, flush=True)
time.sleep(600)
"""
    run = workspace.model("dev/lost").plan_training(TrainingRequest(script=capture(source))).start()
    worker, daemon = (int(word) for word in until(lambda: run.log() if "\n" in run.log() else "").split())
    os.kill(worker, signal.SIGKILL)
    assert run.wait(60) is RunState.FAILED
    assert "the worker that ran the job was killed" in run.reason
    until(lambda: gone(daemon), what="the end of the job's daemon")


def test_children_that_clear_their_environment_end_with_the_job(rig: Rig) -> None:
    done = outcome(rig.open(), rig.job(CLEARED))
    assert done.last.state is RunState.SUCCEEDED
    assert gone(int(done.log))


def test_they_end_when_the_job_is_stopped(rig: Rig) -> None:
    target = rig.open()
    job = rig.job(CLEARED + "time.sleep(600)")
    ref = target.submit(job)
    log = Path(job.folder) / "log.txt"
    child = int(until(lambda: log.exists() and log.read_text()))
    threading.Thread(target=lambda: (until(lambda: not gone(child)), target.stop(ref)), daemon=True).start()
    last = list(target.follow(ref))[-1]
    assert last.state is RunState.STOPPED  # type: ignore[attr-defined]
    until(lambda: gone(child), what="the end of the child")


@pytest.mark.parametrize("rig", ["warm"], indirect=True)
def test_a_child_without_a_mark_may_be_another_running_jobs(rig: Rig, tmp_path: Path) -> None:
    target = rig.open()
    other = rig.job(CLEARED + f"GO = {str(tmp_path / 'go')!r}\n" + WAITS)
    ref = target.submit(other)
    log = Path(other.folder) / "log.txt"
    others_child = int(until(lambda: log.exists() and log.read_text()))
    first = outcome(target, rig.job(CLEARED))
    child = int(first.log)
    assert not gone(others_child)
    (tmp_path / "go").touch()
    assert list(target.follow(ref))[-1].state is RunState.SUCCEEDED  # type: ignore[attr-defined]
    assert gone(others_child)
    assert gone(child)


@pytest.mark.parametrize("rig", ["warm"], indirect=True)
def test_clean_ends_workers_that_have_nothing_to_do(rig: Rig, tmp_path: Path) -> None:
    target = rig.open()
    outcome(target, rig.job("print('idle')"))
    busy = rig.job(f"import os, time, kaptain\nGO = {str(tmp_path / 'go')!r}\nprint(os.getppid(), flush=True)\n{WAITS}")
    ref = target.submit(busy)
    log = Path(busy.folder) / "log.txt"
    worker = int(until(lambda: log.exists() and log.read_text()))
    (idle,) = until(idle_workers)  # it first imports what deployments need
    assert idle != worker
    assert target.clean() == [f"idle warm worker (process {idle})"]  # type: ignore[attr-defined]
    assert not gone(idle)
    assert target.clean(force=True) == [f"idle warm worker (process {idle})"]  # type: ignore[attr-defined]
    until(lambda: gone(idle), what="the end of the idle worker")
    (tmp_path / "go").touch()
    assert list(target.follow(ref))[-1].state is RunState.SUCCEEDED  # type: ignore[attr-defined]
    assert not gone(worker)

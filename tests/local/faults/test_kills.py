"""Kernel, supervisor, worker and job are killed at work: nothing is lost, shown as running, or left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kaptain_magics.core.events import LogWritten, StateChanged
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.errors import RunFailedError
from kaptain_magics.model import TrainingRun, Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from kaptain_magics.state import RunRecord
from tests.waiting import until

SLOW = """
import os, time
print("pid", os.getpid(), flush=True)
for i in range(600):
    print("step", i, flush=True)
    time.sleep(0.1)
"""


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace()


def begin(workspace: Workspace, source: str = SLOW) -> TrainingRun:
    return workspace.model("dev/kill").plan_training(TrainingRequest(script=capture(source))).start()


def job_pid(run: TrainingRun) -> int:
    text = until(lambda: run.log() if "step 0" in run.log() else "", what="the job's first line")
    return int(text.split("pid ")[1].split()[0])


def supervisor_pid(run: TrainingRun) -> int:
    return int(until(lambda: (run.folder.path / "supervisor.pid").read_text()))


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_killed_supervisor_fails_its_run_and_ends_its_job(workspace: Workspace) -> None:
    run = begin(workspace)
    job = job_pid(run)
    os.kill(supervisor_pid(run), signal.SIGKILL)
    until(lambda: run.state.terminal)
    assert run.state is RunState.FAILED
    assert "supervised this run was killed" in run.reason
    assert run.hint
    until(lambda: gone(job), what="the end of the job")
    assert [s.state for s in workspace.runs()] == [RunState.FAILED]
    with pytest.raises(RunFailedError, match="killed"):
        run.raise_for_failure()


def test_a_follower_sees_the_end_of_a_killed_supervisor(workspace: Workspace) -> None:
    run = begin(workspace)
    job_pid(run)
    os.kill(supervisor_pid(run), signal.SIGKILL)
    events = list(run.follow())
    assert isinstance(events[-1], StateChanged)
    assert events[-1].state is RunState.FAILED
    assert list(run.follow()) == events


def test_a_killed_job_names_its_signal(workspace: Workspace) -> None:
    run = begin(workspace)
    os.kill(job_pid(run), signal.SIGKILL)
    assert run.wait(60) is RunState.FAILED
    assert "signal 9" in run.reason


def test_a_killed_worker_ends_its_job_with_a_reason_and_the_next_run_works(workspace: Workspace) -> None:
    run = begin(workspace)
    job = job_pid(run)
    worker = psutil.Process(job).parent()
    assert worker is not None
    worker.kill()
    assert run.wait(60) is RunState.FAILED
    assert "worker" in run.reason
    until(lambda: gone(job), what="the end of the job")
    again = begin(workspace, "print('works again')")
    assert again.wait(60) is RunState.SUCCEEDED


KERNEL = """
import sys, time
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
run = Workspace().model("dev/kill").plan_training(TrainingRequest(script=capture(sys.argv[1]))).start()
print(run.run_id, flush=True)
time.sleep(600)
"""


def test_a_killed_kernel_loses_nothing(workspace: Workspace) -> None:
    source = "import time\nfor i in range(30):\n    print('line', i, flush=True)\n    time.sleep(0.05)\n"
    with subprocess.Popen([sys.executable, "-c", KERNEL, source], stdout=subprocess.PIPE, text=True) as kernel:
        assert kernel.stdout is not None
        run_id = kernel.stdout.readline().strip()
        kernel.kill()
    run = workspace.run(run_id)
    text = "".join(event.text for event in run.follow() if isinstance(event, LogWritten))
    assert text == "".join(f"line {i}\n" for i in range(30))
    assert run.state is RunState.SUCCEEDED


def test_stop_ends_a_run_and_its_processes(workspace: Workspace) -> None:
    run = begin(workspace)
    job = job_pid(run)
    workspace.stop("dev/kill")
    assert run.state is RunState.STOPPED
    until(lambda: gone(job))
    run.stop()  # an ended run is left alone
    assert run.state is RunState.STOPPED


def test_children_of_a_job_end_with_it(workspace: Workspace) -> None:
    source = """
import os, subprocess, sys
group = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("children", group.pid, daemon.pid, flush=True)
"""
    run = begin(workspace, source)
    assert run.wait(60) is RunState.SUCCEEDED
    pids = [int(word) for word in run.log().split()[1:3]]
    until(lambda: all(gone(pid) for pid in pids), what="the end of the job's children")


def test_a_run_that_never_got_a_supervisor_is_settled(workspace: Workspace) -> None:
    record = RunRecord(
        run_id="20200101-000000-abcdef",
        kind=RunKind.TRAIN,
        name="old",
        model_id="dev/old",
        target="local",
        created=time.time() - 3600,
    )
    workspace.store.create(record)
    (summary,) = workspace.runs()
    assert summary.state is RunState.FAILED
    assert "killed, or the machine was restarted" in summary.reason


def test_a_torn_event_is_cut_off(workspace: Workspace) -> None:
    run = begin(workspace, "print('whole')")
    assert run.wait(60) is RunState.SUCCEEDED
    before = list(run.follow())
    with open(run.folder.events_path, "ab") as file:
        file.write(b'{"kind":"note","seq":99,"te')
    assert list(run.follow()) == before

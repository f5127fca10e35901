"""Between a run's first moment and its script's: slow starts, imports that hang, killed starters, clocks that jump."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.model import TrainingRun, Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
from kaptain_magics.state import RunFolder, RunRecord, RunStore, run_folders
from kaptain_magics.targets.base import JobRef, Target, TargetConfig
from kaptain_magics.targets.local import started_job
from kaptain_magics.testing.job_rig import Rig
from tests.waiting import until
from tests.workers import gone, packages

HANGS = (
    "import os, pathlib, time\npathlib.Path(__file__).with_name('pid').write_text(str(os.getpid()))\ntime.sleep(600)"
)
WAITS = """
import os, pathlib, time
me = pathlib.Path(__file__)
with open(me.with_name("pids"), "a") as file:
    file.write(f"{os.getpid()} ")
while not me.with_name("go").exists():
    time.sleep(0.02)
"""


@pytest.fixture
def workspace(home: Path, workers: Path) -> Workspace:
    return Workspace()


@pytest.fixture
def rig(tmp_path: Path, workers: Path) -> Rig:
    (tmp_path / "runs").mkdir()
    config = TargetConfig(home=tmp_path, cache=tmp_path / "cache", settings={"warm": "true"})
    return Rig(name="local", config=config, folder=tmp_path / "runs", uploads=(tmp_path / "storage").as_uri())


def begin(workspace: Workspace, source: str, **options: object) -> TrainingRun:
    return workspace.model("dev/start").plan_training(TrainingRequest(script=capture(source), **options)).start()  # type: ignore[arg-type]


def record(**changes: object) -> RunRecord:
    facts = {"run_id": "20260101-000000-abcdef", "kind": RunKind.TRAIN, "name": "n", "model_id": "m", "target": "local"}
    return RunRecord(**{**facts, "created": 0.0, **changes})  # type: ignore[arg-type]


class Following:
    """Follows a job in a thread."""

    def __init__(self, target: Target, job: JobSpec) -> None:
        self.ref: JobRef = target.submit(job)
        self.events: list[Event] = []
        self._thread = threading.Thread(target=lambda: self.events.extend(target.follow(self.ref)), daemon=True)
        self._thread.start()

    def end(self) -> StateChanged:
        self._thread.join(60)
        last = self.events[-1]
        assert isinstance(last, StateChanged)
        return last


# ---- a start is not judged by the clock ------------------------------------------------------------------------------


def test_a_slow_start_is_no_death(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import os, time\nif 'KAPTAIN_ZYGOTE' in os.environ:\n    time.sleep(0.7)\n"
    packages(tmp_path, monkeypatch, sitecustomize=slow)
    monkeypatch.setattr(run_folders, "_GRACE", 0.3, raising=False)
    run = begin(workspace, "print('started after all')")
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    assert run.log() == "started after all\n"


def test_a_run_is_pending_as_long_as_its_starter_lives(home: Path) -> None:
    """However old it seems: another machine's clock, or a step of this one's, made its time."""
    made = RunStore(home).create(record(created=0.0))
    assert RunFolder(made.path).last_state().state is RunState.PENDING
    made.lock.release()
    assert RunFolder(made.path).last_state().state is RunState.FAILED


def test_a_run_whose_starter_was_killed_has_failed_at_once(home: Path) -> None:
    code = """
import os, signal, time
from pathlib import Path
from kaptain_magics.core.states import RunKind
from kaptain_magics.state import RunRecord, RunStore
record = RunRecord(run_id="r", kind=RunKind.TRAIN, name="n", model_id="m", target="local", created=time.time())
made = RunStore(Path(os.environ["KAPTAIN_HOME"])).create(record)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    last = RunFolder(home / "runs" / "r").last_state()
    assert last.state is RunState.FAILED
    assert "killed" in last.reason


# ---- imports that take long or hang ----------------------------------------------------------------------------------


def test_the_time_limit_ends_a_job_that_imports(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages(tmp_path, monkeypatch, hangs=HANGS)
    monkeypatch.setattr(started_job, "_SLOW_START", 0.2)
    target = rig.open()
    begun = time.monotonic()
    following = Following(target, rig.job("import hangs", timeout=2.0))
    last = following.end()
    assert time.monotonic() - begun < 20
    assert (last.state, last.reason) == (RunState.FAILED, "timed out after 2 s, while importing hangs")
    assert "--timeout" in last.hint
    assert [e.text for e in following.events if isinstance(e, Noted)] == ["The warm worker is importing hangs."]
    pid = int((tmp_path / "more-packages" / "pid").read_text())
    until(lambda: gone(pid), what="the end of the worker that hangs")


@pytest.mark.parametrize("imports_first", [True, False])
def test_stop_ends_a_run_that_imports(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imports_first: bool
) -> None:
    packages(tmp_path, monkeypatch, hangs=HANGS)
    written = tmp_path / "more-packages" / "pid"
    run = begin(workspace, "import hangs")
    if imports_first:
        pid = int(until(lambda: written.exists() and written.read_text()))
    begun = time.monotonic()
    run.stop()
    assert time.monotonic() - begun < 15
    assert run.state is RunState.STOPPED
    if imports_first:
        until(lambda: gone(pid), what="the end of the worker that hangs")


def test_a_start_that_hangs_before_the_worker_is_there_is_stopped(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages(tmp_path, monkeypatch, sitecustomize=f"import os\nif 'KAPTAIN_ZYGOTE' in os.environ:\n    exec({HANGS!r})")
    target = rig.open()
    following = Following(target, rig.job("print('never')"))
    written = tmp_path / "more-packages" / "pid"
    pid = int(until(lambda: written.exists() and written.read_text()))
    target.stop(following.ref)
    assert following.end().state is RunState.STOPPED
    until(lambda: gone(pid), what="the end of the process that hangs")


def test_another_job_of_the_same_worker_goes_on(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages(tmp_path, monkeypatch, waits=WAITS)
    insert_parameters = tmp_path / "more-packages"
    target = rig.open()
    first, other = (Following(target, rig.job("import waits\nprint('goes on')")) for _ in range(2))
    until(lambda: (insert_parameters / "pids").exists() and (insert_parameters / "pids").read_text())
    target.stop(first.ref)
    assert first.end().state is RunState.STOPPED
    (insert_parameters / "go").touch()
    assert other.end().state is RunState.SUCCEEDED


def test_a_worker_skips_clients_that_have_gone(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed kernel or supervisor asked for is not started any more; the worker itself goes on."""
    packages(tmp_path, monkeypatch, waits=WAITS)
    insert_parameters = tmp_path / "more-packages"
    code = """
import os, signal, sys
from pathlib import Path
from kaptain_magics.processes.start_process import start_process
from kaptain_magics.processes.warm_worker import WarmWorker
def killed_when_it_has_asked():
    os.kill(os.getpid(), signal.SIGKILL)
worker = WarmWorker(["import waits"], dict(os.environ))
program = {"script": sys.argv[1], "argv": []}
request = {"program": program, "env": {}, "cwd": str(Path(sys.argv[1]).parent), "detached": True}
start_process(request, 1, warm=worker, cancelled=killed_when_it_has_asked)
"""
    script = tmp_path / "script.py"
    script.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    client = subprocess.Popen([sys.executable, "-c", code, str(script)], env=dict(os.environ))
    client.wait(30)
    until(lambda: (insert_parameters / "pids").exists() and (insert_parameters / "pids").read_text())
    (insert_parameters / "go").touch()
    following = Following(rig.open(), rig.job("import waits\nimport os\nprint(os.getppid())"))
    assert following.end().state is RunState.SUCCEEDED
    assert not (tmp_path / "ran").exists()


# ---- supervisors that do not answer ----------------------------------------------------------------------------------

SLEEPS = """
import os, subprocess, sys, time
daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(os.getpid(), os.getppid(), daemon.pid, flush=True)
time.sleep(600)
"""


def supervisor_of(run: TrainingRun) -> int:
    written = run.folder.path / "supervisor.pid"
    return int(until(lambda: written.exists() and written.read_text()))


def first_line(run: TrainingRun) -> list[int]:
    return [int(word) for word in until(lambda: run.log() if "\n" in run.log() else "").split()]


def test_a_paused_supervisor_is_woken_to_stop_its_run(workspace: Workspace) -> None:
    run = begin(workspace, SLEEPS)
    job, _, daemon = first_line(run)
    os.kill(supervisor_of(run), signal.SIGSTOP)
    begun = time.monotonic()
    run.stop()
    assert time.monotonic() - begun < 15
    assert (run.state, run.reason) == (RunState.STOPPED, "stopped")
    until(lambda: gone(job) and gone(daemon))


def test_a_supervisor_that_does_not_end_is_killed_and_its_job_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker is paused: neither the supervisor nor the worker can end what the job has left."""
    from kaptain_magics.model import runs

    monkeypatch.setattr(runs, "_STOP_TIMEOUT", 1.0)
    run = begin(workspace, SLEEPS)
    job, worker, daemon = first_line(run)
    os.kill(worker, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        run.stop()
        assert time.monotonic() - begun < 15
        assert run.state is RunState.STOPPED
        assert "did not answer for 1 s" in run.reason
        assert run.folder.last_state().state is RunState.STOPPED
        until(lambda: gone(job) and gone(daemon), what="the end of the job's processes")
    finally:
        os.kill(worker, signal.SIGCONT)

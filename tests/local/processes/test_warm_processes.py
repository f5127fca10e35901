"""Warm workers: forks that are as good as fresh processes, and the ways out where they are not safe."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from kaptain_magics.config import Settings
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import TargetError
from kaptain_magics.model import TrainingRun, Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.processes import idle_workers, start_process
from kaptain_magics.processes.start_process import threads_for
from kaptain_magics.processes.warm_worker import CAN_FORK, WarmWorker
from kaptain_magics.script import capture
from tests.waiting import until


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace(Settings.load())


def train(workspace: Workspace, source: str, **options: object) -> TrainingRun:
    run = workspace.model("dev/warm").plan_training(TrainingRequest(script=capture(source), **options)).start()  # type: ignore[arg-type]
    assert run.wait(120) is RunState.SUCCEEDED, (run.reason, run.log())
    return run


def test_forks_draw_numbers_of_their_own(workspace: Workspace) -> None:
    source = """
import random
import numpy as np
print(np.random.rand(), random.random(), np.random.default_rng().random())
"""
    drawn = {train(workspace, source).log() for _ in range(3)}
    assert len(drawn) == 3
    assert len({number for line in drawn for number in line.split()}) == 9


def test_a_fork_looks_like_a_process_of_its_own(workspace: Workspace) -> None:
    source = """
import os, sys, json
import __main__
me = {"argv": sys.argv[1:], "name": __name__, "main": __main__.__file__ == __file__, "cwd": os.listdir(),
      "stdin": sys.stdin.read(), "session": os.getsid(0) == os.getpid(), "path": sys.path[0] == os.getcwd()}
print(json.dumps(me))
"""
    me = json.loads(train(workspace, source, args=["--x", "a b"]).log())
    assert me == {
        "argv": ["--x", "a b"],
        "name": "__main__",
        "main": True,
        "cwd": ["cell.py"],
        "stdin": "",
        "session": True,
        "path": True,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by Linux's /proc")
def test_forks_that_left_their_session_end_with_the_job(workspace: Workspace) -> None:
    source = """
import os, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(86400)
    os.write(writing, f"{os.getpid()} {child}".encode())
    time.sleep(86400)
print(os.read(reading, 100).decode())
"""
    for pid in train(workspace, source).log().split():
        assert not psutil.pid_exists(int(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by Linux's /proc")
def test_a_program_that_is_just_being_executed_ends_with_its_job(tmp_path: Path) -> None:
    sleeper = ["sleep", "86411"]
    script = tmp_path / "script.py"
    script.write_text(f"import os\nif not os.fork():\n    os.setsid()\n    os.execvp('sleep', {sleeper})\n")
    worker = WarmWorker([], dict(os.environ))
    with open(tmp_path / "log.txt", "wb") as log:
        for number in range(100):  # each ends the job at another moment of the execution
            env = {**os.environ, "KAPTAIN_JOB": f"{number:032x}"}
            request = {"program": {"script": str(script), "argv": []}, "env": env, "cwd": str(tmp_path)}
            process = start_process.start_process(request, log.fileno(), warm=worker)
            assert process.wait(60) is not None
    left = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == sleeper]
    for one in left:
        one.kill()
    assert not left


def test_an_imported_thread_forbids_the_fork_silently(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "more-packages"
    packages.mkdir()
    (packages / "threaded.py").write_text(
        "import threading, time, os\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "home = os.getpid()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(packages))
    source = "import os\nimport threaded\nprint(threaded.home == os.getpid())"
    assert train(workspace, source).log() == "True\n"
    (packages / "quiet.py").write_text("import os\nhome = os.getpid()\n")
    forked = "False\n" if CAN_FORK else "True\n"
    assert train(workspace, source.replace("threaded", "quiet")).log() == forked


def test_workers_are_few(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="kpt"))  # sockets need short paths
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(idle_workers, "_WORKERS", 2)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own-packages"))
    (tmp_path / "own-packages").mkdir()
    try:
        for number in range(4):
            (tmp_path / "own-packages" / f"part{number}.py").write_text("")
            worker = WarmWorker([f"import part{number}"], dict(os.environ))
            worker.connect().close()
            assert worker.usable
        sockets = [path for path in folder.rglob("*") if path.is_socket()]
        assert len(sockets) == 2
        shared = [WarmWorker([], dict(os.environ), later=()) for _ in range(2)]
        for worker in shared:
            worker.connect().close()
        assert shared[0]._path == shared[1]._path
    finally:
        until(lambda: not workers_of(folder) or end(workers_of(folder)))
        shutil.rmtree(folder)


def workers_of(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in process.environ().get("KAPTAIN_ZYGOTE", ""):
                found.append(process)
    return found


def end(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()


def test_a_module_beside_the_script_is_never_kept_warm(workspace: Workspace, tmp_path: Path) -> None:
    module = tmp_path / "helper.py"
    for answer in ("one", "two"):
        module.write_text(f"answer = {answer!r}")
        assert train(workspace, "import helper\nprint(helper.answer)", files=[str(module)]).log() == f"{answer}\n"


def test_threads_follow_the_cores(workspace: Workspace) -> None:
    source = "import os\nprint(os.environ['OMP_NUM_THREADS'])"
    assert train(workspace, source, resources=Resources.simple(cpu="0.5")).log() == "1\n"
    assert train(workspace, source).log() == f"{threads_for(None)}\n"


def test_without_a_fork_a_plain_child_does_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_process, "CAN_FORK", False)
    (tmp_path / "work").mkdir()
    script = tmp_path / "work" / "script.py"
    script.write_text("import sys\nrate = 1\nprint(rate, sys.argv[1:])\nraise SystemExit(4)\n")
    request = {
        "program": {"script": str(script), "argv": ["--a"], "assignments": {"rate": 0.5}},
        "env": dict(os.environ),
        "cwd": str(script.parent),
        "exit_path": str(tmp_path / "exit.json"),
    }
    with open(tmp_path / "log.txt", "wb") as log:
        process = start_process.start_process(request, log.fileno())
        ended = process.wait(60)
        process.leave()
    assert ended is not None
    assert ended.code == 4
    assert (tmp_path / "log.txt").read_text() == "0.5 ['--a']\n"
    assert json.loads((tmp_path / "exit.json").read_text())["exit"] == 4


def test_a_worker_that_cannot_start_is_a_clear_error(tmp_path: Path) -> None:
    request = {"program": {"script": "x", "argv": []}, "env": {}, "cwd": str(tmp_path)}
    with open(tmp_path / "log.txt", "wb") as log, pytest.raises(TargetError):
        start_process.start_process(request, log.fileno(), python=str(tmp_path / "no-python"))
    assert sys.executable


KERNEL = """
import os, resource, sys
os.umask(int(sys.argv[1], 8))
os.nice(int(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.script import capture
source = '''
import os, resource
print(oct(os.umask(0)), os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
'''
run = Workspace().model("dev/warm").plan_training(TrainingRequest(script=capture(source))).start()
run.wait(60)
print(run.log())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no umask")
def test_jobs_have_the_limits_of_their_own_kernel(home: Path, workers: Path) -> None:
    for asked in (["0o0", "3", "333"], ["0o27", "1", "300"]):
        done = subprocess.run([sys.executable, "-c", KERNEL, *asked], capture_output=True, text=True, timeout=120)
        assert done.stdout.split() == [asked[0], str(os.nice(0) + int(asked[1])), asked[2]], done.stderr


@pytest.mark.parametrize("options", [{}, {"resources": Resources.simple(cpu="2")}])
def test_a_number_of_threads_that_a_person_set_is_kept(
    workspace: Workspace, workers: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    source = "import os\nprint(*(os.environ[name] for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')))"
    others = threads_for(2 if options else None)
    assert train(workspace, source, env={"OMP_NUM_THREADS": "1"}, **options).log() == f"1 {others}\n"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert train(workspace, source, **options).log() == f"1 {others}\n"
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert train(workspace, source, **options).log() == f"3,1 {others}\n"


def test_libraries_have_the_threads_that_a_person_set(
    workspace: Workspace, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
import sklearn, threadpoolctl
print(sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()}))
"""
    assert train(workspace, source).log() == f"[{threads_for(None)}]\n"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert train(workspace, source).log() == "[1]\n"

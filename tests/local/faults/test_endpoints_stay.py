"""Endpoints stay: whatever else a user starts, wherever sockets go, and after the kernel that deployed them is gone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from kaptain_magics import sockets
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec, JobSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import ServingError
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import DeploymentRequest
from kaptain_magics.processes.warm_worker import WarmWorker
from kaptain_magics.runtime.manifest import MANIFEST, Manifest
from kaptain_magics.script import capture
from kaptain_magics.serving.client.predict import predict
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.local import LocalTarget
from kaptain_magics.targets.local.instances import Instance
from tests.servers import ADDER, predictor
from tests.shell import Notebook
from tests.waiting import until

TRAIN = """%%kaptain_train c/one --model m
from sklearn.dummy import DummyClassifier
m = DummyClassifier(strategy="constant", constant=1).fit([[0], [1]], [0, 1])
"""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of the test's own, also for the processes that it starts."""
    with tempfile.TemporaryDirectory(prefix="kpt") as folder:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        use(monkeypatch, Path(folder))
        yield Path(folder)
        for worker in workers(Path(folder)):
            worker.kill()


def use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def workers(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            forked = os.getsid(process.pid) == process.pid  # a job of a worker, with its environment
            if f'"socket": "{folder}' in process.environ().get("KAPTAIN_ZYGOTE", "") and not forked:
                found.append(process)
    return found


class Forked:
    """Targets of two state folders whose servers fork from one warm worker."""

    def __init__(self, folder: Path) -> None:
        self.targets = [LocalTarget(TargetConfig(home=folder / f"home{i}", cache=folder)) for i in range(2)]
        script = capture("import numpy\n")
        job = JobSpec(name="j", run_id="r", model_id="m", script=script, framework=ModelFramework.PYTHON)
        for target in self.targets:
            target.serve_like(job)
        self.model = predictor(folder / "model", ADDER).as_uri()

    def deploy(self, number: int, name: str = "", **more: Any) -> Any:
        spec = EndpointSpec(
            name=name or f"e-{number}",
            run_id=f"r{number:04d}",
            model_id="e/m",
            revision=f"{number:032x}",
            artifact_uri=self.model,
            framework=ModelFramework.PYTHON,
            timeout=60.0,
            **more,
        )
        return list(self.targets[number % 2].deploy(spec))[-1]

    def statuses(self) -> list[Any]:
        return [status for target in self.targets for status in target.endpoints()]

    def undeploy(self) -> None:
        for target in self.targets:
            for status in target.endpoints():
                target.undeploy(status.name)


@pytest.fixture
def forked(tmp_path: Path, temporary: Path) -> Iterator[Forked]:
    made = Forked(tmp_path)
    yield made
    made.undeploy()


def pids(folder: Path) -> set[int]:
    info = [Instance(path).info for path in folder.glob("home*/local/endpoints/*/i-*")]
    return {one.pid for one in info if one is not None}


def test_fifteen_endpoints_stay_through_thirty_workers(
    forked: Forked, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPTAIN_WARM_IDLE", "5")
    packages = tmp_path / "own-packages"
    packages.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(packages))
    for number in range(15):
        assert forked.deploy(number).state is RunState.SUCCEEDED
    before = pids(tmp_path)
    for number in range(30):
        (packages / f"part{number}.py").write_text("")
        WarmWorker([f"import part{number}"], dict(os.environ)).connect().close()
        assert len([path for path in temporary.rglob("*") if path.is_socket()]) <= 12
    statuses = forked.statuses()
    assert [s.state for s in statuses] == [EndpointState.READY] * 15, [s.reason for s in statuses]
    assert [int(predict(s.url, {}, [[1.0, 2.0]])[0]) for s in statuses] == [3] * 15
    assert forked.deploy(100, "e-0", replace=True).state is RunState.SUCCEEDED
    assert len(pids(tmp_path) & before) >= 14
    until(lambda: all(w.children() for w in workers(temporary)), 60, "the end of idle workers")  # not the servers' own
    assert {s.state for s in forked.statuses()} == {EndpointState.READY}


def test_sockets_of_killed_workers_are_removed(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WarmWorker(["import json"], dict(os.environ)).connect().close()
    (worker,) = workers(temporary)
    worker.kill()
    (path,) = [path for path in temporary.rglob("*") if path.is_socket()]
    os.utime(path, (1, 1))
    monkeypatch.setenv("KAPTAIN_WARM_IDLE", "0.2")
    WarmWorker(["import csv"], dict(os.environ)).connect().close()
    assert not path.exists()


def test_an_endpoint_outlives_its_kernel_and_all_idle_workers(
    home: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The idle times of a day, in seconds."""
    monkeypatch.setenv("KAPTAIN_WARM_IDLE", "0.5")
    code = f"""
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "kaptain_magics")
for cell in ({TRAIN!r}, "%kaptain_deploy c/one"):
    shell.run_cell(cell).raise_error()
print("deployed", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE) as kernel:
        assert kernel.stdout is not None
        try:
            assert any(line.strip() == b"deployed" for line in kernel.stdout)
        finally:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):  # as Jupyter shuts a kernel down, and worse
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(kernel.pid, number)
    workspace = Workspace()
    try:
        until(lambda: len(workers(temporary)) <= 1, 60, "the end of idle workers")
        (status,) = workspace.endpoints()
        assert (status.state, status.reason) == (EndpointState.READY, "")
        assert workspace.endpoint("c/one").predict([[0]]).tolist() == [1]
        (worker,) = workers(temporary)  # the one that the server was forked from: its death is not the server's
        worker.kill()
        until(lambda: not workers(temporary), 30)
        assert workspace.endpoint("c/one").predict([[0]]).tolist() == [1]
    finally:
        workspace.endpoint("c/one").undeploy()


@pytest.mark.parametrize("place", ["another", "long", "squatted", "linked", "runtime", "foreign runtime", "none"])
def test_any_folder_for_temporary_files(
    place: str, notebook: Notebook, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = temporary / f"kaptain-{os.getuid()}"
    if place == "long":
        long = temporary / ("x" * (102 - len(str(temporary))))
        long.mkdir()
        assert len(str(long)) == 103
        use(monkeypatch, long)
    elif place == "squatted":
        theirs.mkdir()
        os.chown(theirs, 12345, -1) if os.getuid() == 0 else theirs.chmod(0o755)
    elif place == "linked":
        theirs.symlink_to(tmp_path)
    elif "runtime" in place:
        runtime = temporary / "runtime"
        runtime.mkdir(mode=0o755 if place == "foreign runtime" else 0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    elif place == "none":
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(temporary / "absent"))
    notebook.run(TRAIN)
    notebook.run("%kaptain_deploy c/one")
    assert workers(temporary), "no warm worker"
    with tempfile.TemporaryDirectory(prefix="kpt") as other:
        if place == "another":
            use(monkeypatch, Path(other))
        try:
            notebook.run("%kaptain_deploy c/one --replace")
            assert notebook.run("%kaptain predict c/one [[0]]").tolist() == [1]
            assert [s.state for s in Workspace().endpoints()] == [EndpointState.READY]
        finally:
            Workspace().endpoint("c/one").undeploy()
            for worker in workers(Path(other)):
                worker.kill()
    assert list(tmp_path.glob("*.sock")) == []
    assert (place == "runtime") == (temporary / "runtime" / "kaptain").exists()


def test_a_state_folder_without_sockets(forked: Forked, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    """Such as one that is shared with another operating system."""
    monkeypatch.setattr("kaptain_magics.targets.local.instances.can_listen", lambda _: False)
    assert forked.deploy(0).state is RunState.SUCCEEDED
    monkeypatch.undo()  # a later process finds them by what is written down
    (status,) = forked.statuses()
    assert status.state is EndpointState.READY
    assert forked.deploy(2, "e-0", replace=True).state is RunState.SUCCEEDED
    forked.undeploy()
    assert not [path for path in temporary.glob("kaptain-*/*") if path.is_socket()]


def test_a_long_path_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_DESCRIPTORS", tmp_path / "absent")
    folder = tmp_path / ("y" * 120)
    folder.mkdir()
    assert sockets.can_listen(folder)
    with sockets.listen_unix(folder / "s") as listener, sockets.connect_unix(folder / "s", 10) as connection:
        connection.sendall(b"x")
        with listener.accept()[0] as accepted:
            assert accepted.recv(1) == b"x"


def server_of(workspace: Workspace, name: str = "c-one") -> Instance:
    folder = Path(workspace.settings.home) / "local" / "endpoints" / name
    return next(i for i in map(Instance, folder.glob("i-*")) if i.alive)


@pytest.mark.parametrize("line", ["%kaptain_deploy c/one", "%kaptain_deploy c/one --replace"])
def test_a_dead_endpoint_says_why_and_is_deployed_again(
    line: str, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run(TRAIN)
    notebook.run("%kaptain_deploy c/one")
    workspace = Workspace()
    server = server_of(workspace)
    assert server.info is not None
    os.kill(server.info.pid, signal.SIGKILL)
    until(lambda: server.ended, 30, "the worker's word")
    try:
        for verb in ("%kaptain endpoints", "%kaptain"):
            capsys.readouterr()
            notebook.run(verb)
            shown = " ".join(capsys.readouterr().out.split())
            assert "SIGKILL" in shown, shown
        error = notebook.error("%kaptain predict c/one [[0]]")
        assert isinstance(error, ServingError)
        assert "killed by SIGKILL" in error.message
        assert error.hint == "start it again: %kaptain_deploy c/one --replace"
        deployment = next(run for run in workspace.runs() if run.record.endpoint is not None)
        assert "killed by SIGKILL" in workspace.run(deployment.record.run_id).log()
        notebook.run(line)
        assert notebook.run("%kaptain predict c/one [[0]]").tolist() == [1]
    finally:
        workspace.endpoint("c/one").undeploy()


@pytest.mark.parametrize("trouble", ["stopped", "unreachable"])
def test_a_server_that_hangs_is_replaced(trouble: str, forked: Forked, tmp_path: Path) -> None:
    """It lives and has the port, but cannot hand it over."""
    assert forked.deploy(0).state is RunState.SUCCEEDED
    (server,) = map(Instance, tmp_path.glob("home0/local/endpoints/e-0/i-*"))
    assert server.info is not None
    if trouble == "stopped":
        os.kill(server.info.pid, signal.SIGSTOP)
    else:
        server.control.unlink()
    pid, before = server.info.pid, server.info.port
    end = forked.deploy(2, "e-0")
    assert end.state is RunState.SUCCEEDED, end
    (status,) = forked.statuses()
    assert f":{before}/" in status.url
    assert int(predict(status.url, {}, [[1.0, 2.0]])[0]) == 3
    until(lambda: not psutil.pid_exists(pid), 30)


def test_replacements_at_once_follow_one_another(forked: Forked) -> None:
    assert forked.deploy(0, "e-0").state is RunState.SUCCEEDED
    ends: dict[int, Any] = {}
    numbers = [2, 4, 6, 8, 10, 12]
    threads = [
        threading.Thread(target=lambda n=n: ends.update({n: Again(forked).deploy(n, "e-0", replace=True)}))
        for n in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert {n: end.state for n, end in ends.items()} == dict.fromkeys(numbers, RunState.SUCCEEDED), ends
    (status,) = forked.statuses()
    assert status.traffic == {f"{12:032x}": 100}
    assert int(predict(status.url, {}, [[1.0, 2.0]])[0]) == 3


class Again(Forked):
    """The same targets as another process would open them."""

    def __init__(self, other: Forked) -> None:
        home = other.targets[0]._config.home.parent
        super().__init__(home)


def test_clean_removes_what_a_killed_deployment_left(notebook: Notebook, home: Path, tmp_path: Path) -> None:
    notebook.run(TRAIN)
    slow = "import time\nwhile True:\n    time.sleep(0.05)\n"
    model = predictor(tmp_path / "slow", slow)
    digest = hashlib.sha256(slow.encode()).hexdigest()
    manifest = Manifest({"model.py": digest}, len(slow), "python", "python", 0.0)
    (model / MANIFEST).write_bytes(manifest.encode())
    workspace = Workspace()
    plan = workspace.model("c/two", framework="python").plan_deployment(
        DeploymentRequest(model_uri=str(model), trust=True)
    )
    deployment = plan.start()
    folder = home / "local" / "endpoints" / "c-two"
    server = until(lambda: next((i for i in map(Instance, folder.glob("i-*")) if i.alive and i.info), None))
    assert not any("c-two" in line for line in workspace.clean())  # it is going on
    os.kill(int((deployment.folder.path / "supervisor.pid").read_text()), signal.SIGKILL)
    until(lambda: deployment.state.terminal)
    until(lambda: any("c-two" in line for line in workspace.clean()), 30)  # its locks go one after the other
    assert server.alive
    workspace.clean(force=True)
    assert not server.alive
    assert not folder.exists()
    assert not any("c-two" in line for line in workspace.clean())

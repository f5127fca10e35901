"""Seeds fork workers, give way to other work, and end with the kernels that they were started for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from kaptain_magics.processes import seeds
from kaptain_magics.processes.background import give_way
from kaptain_magics.processes.idle_workers import idle_workers
from kaptain_magics.processes.start_process import start_process
from kaptain_magics.processes.warm_worker import WarmWorker
from tests.waiting import until
from tests.workers import packages, workers_of


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: Path) -> Path:
    """A file to which the library ``plain`` writes the process that imports it, as ``choosy`` does."""
    file = tmp_path / "imported.txt"
    source = f"import os\nopen({str(file)!r}, 'a').write(__name__ + f' {{os.getpid()}}\\n')\n"
    packages(tmp_path, monkeypatch, plain=source, choosy=source, further="")
    monkeypatch.setattr(seeds, "_NEUTRAL", frozenset({"plain"}))
    monkeypatch.setattr(seeds, "_NAMED", frozenset({"choosy"}))
    return file


@pytest.fixture
def owner(workers: Path) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child
    child.kill()
    child.wait()


def seed_of(modules: list[str], owner: int, named: bool = False) -> None:
    statements = seeds.seed_statements(modules, named)
    WarmWorker(statements, dict(os.environ), seed=True, owner=owner).make_ready(lambda: False)


def run(statements: list[str], folder: Path, source: str) -> str:
    (folder / "script.py").write_text(source)
    request = {
        "program": {"script": str(folder / "script.py"), "argv": []}, "env": dict(os.environ), "cwd": str(folder),
    }  # fmt: skip
    with open(folder / "log.txt", "wb") as log:
        process = start_process(request, log.fileno(), warm=WarmWorker(statements, dict(os.environ)))
    ended = process.wait(60)
    assert ended is not None
    assert ended.code == 0, (folder / "log.txt").read_text()
    return (folder / "log.txt").read_text()


def test_a_worker_is_forked_from_a_seed_and_imports_only_the_rest(
    tmp_path: Path, imported: Path, owner: subprocess.Popen[bytes]
) -> None:
    seed_of(["plain"], owner.pid)
    text = run(
        ["import plain", "import further"], tmp_path, "import os, sys\nprint('further' in sys.modules, os.nice(0))"
    )
    assert text == f"True {os.nice(0)}\n"
    assert len(imported.read_text().splitlines()) == 1
    assert run(["from plain import os"], tmp_path, "print('again')") == "again\n"
    assert len(imported.read_text().splitlines()) == 1


def test_a_script_gets_no_library_that_it_does_not_name_but_the_neutral_ones(
    tmp_path: Path, imported: Path, owner: subprocess.Popen[bytes]
) -> None:
    seed_of(["plain", "choosy"], owner.pid, named=True)
    assert len(imported.read_text().splitlines()) == 2
    show = "import sys\nprint('choosy' in sys.modules, 'plain' in sys.modules)"
    assert run(["import plain"], tmp_path, show) == "False True\n"
    assert run(["import further"], tmp_path, show) == "False False\n"
    assert run(["import choosy"], tmp_path, show) == "True True\n"
    assert len(imported.read_text().splitlines()) == 3  # `plain` once more, by a worker of its own


def test_what_was_readied_ends_with_its_kernel_unless_it_was_used(
    tmp_path: Path, imported: Path, workers: Path, owner: subprocess.Popen[bytes]
) -> None:
    seed_of(["plain"], owner.pid)
    ready = WarmWorker(["import further"], dict(os.environ), owner=owner.pid)
    ready.make_ready(lambda: False)
    assert len(workers_of(workers)) == 2
    run(["import plain"], tmp_path, "")
    assert len(workers_of(workers)) == 3
    owner.kill()
    until(lambda: len(workers_of(workers)) == 1, what="the end of what was readied")


def test_clean_ends_seeds(imported: Path, workers: Path, owner: subprocess.Popen[bytes]) -> None:
    seed_of(["plain"], owner.pid)
    (pid,) = [process.pid for process in workers_of(workers)]
    assert idle_workers(leave=True) == [pid]
    until(lambda: not workers_of(workers), what="the end of the seed")


def test_two_kernels_share_a_seed(imported: Path, workers: Path, owner: subprocess.Popen[bytes]) -> None:
    seed_of(["plain"], owner.pid)
    seed_of(["plain"], os.getpid())
    (seed,) = workers_of(workers)
    owner.kill()
    owner.wait()
    run_looks = 5.0  # seconds; a worker looks every two
    with pytest.raises(psutil.TimeoutExpired):
        seed.wait(run_looks)


def test_work_in_the_background_gives_way_and_the_process_does_not() -> None:
    code = (
        "import os\nfrom kaptain_magics.processes.background import give_way\n"
        "inside = give_way(lambda: os.getpriority(os.PRIO_PROCESS, 0), 7)\n"
        "child = os.fork()\n"
        "os.write(1, f'{inside} {os.getpriority(os.PRIO_PROCESS, 0)}\\n'.encode())\n"
        "os._exit(0) if not child else os.wait()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert done.stdout.splitlines() == [f"7 {here}"] * 2
    with pytest.raises(ZeroDivisionError):
        give_way(lambda: 1 // 0, 3)


def test_a_kernel_readies_what_it_has_imported(
    home: Path, workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPTAIN_PREWARM", "true")
    monkeypatch.chdir(tmp_path)
    manager, client = start_new_kernel()
    try:
        client.execute_interactive("%load_ext kaptain_magics", timeout=60)
        client.execute_interactive("import numpy.linalg, sklearn.linear_model", timeout=60)
        until(lambda: any(_seed(path) for path in workers.rglob("*.json")), 120, what="a seed")
        modules = next(filter(None, map(_seed, workers.rglob("*.json"))))
        assert {"numpy", "numpy.linalg", "sklearn.linear_model"} <= set(modules)
        assert not any(home.iterdir())  # it writes nothing where nothing has run
    finally:
        client.stop_channels()
        os.kill(manager.provisioner.pid, signal.SIGKILL)
        manager.shutdown_kernel(now=True)
    until(lambda: not workers_of(workers), 60, what="the end of what was readied")


def _seed(path: Path) -> list[str]:
    return json.loads(path.read_text()).get("seed") or [] if path.exists() else []

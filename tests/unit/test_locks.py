"""Locks: held by one, handed over, and looked at without a trace."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from kaptain_magics import files
from kaptain_magics.errors import ServingError
from kaptain_magics.files import Lock
from kaptain_magics.serving.control import hold_state

PROBER = """
import sys
from pathlib import Path
from kaptain_magics import files
if sys.argv[2] == "probes":
    files._HAS_QUERY = False
print("looking", flush=True)
while True:
    files.Lock(Path(sys.argv[1])).held_by_other()
"""


@pytest.fixture(params=["asks", "probes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a look is done: by a question, or by a shared lock where the system has no such question."""
    if request.param == "probes":
        monkeypatch.setattr(files, "_HAS_QUERY", False)
    return str(request.param)


@pytest.mark.interpreter
def test_looks_never_refuse_a_lock(tmp_path: Path, way: str) -> None:
    path = tmp_path / "lock"
    path.touch()
    command = [sys.executable, "-c", PROBER, str(path), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as prober:
        assert prober.stdout is not None
        prober.stdout.readline()
        refused = 0
        for _ in range(1000):
            lock = Lock(path)
            refused += not lock.acquire()
            lock.release()
            time.sleep(0.0005)  # not in step with the prober
        assert prober.poll() is None
        prober.kill()
    assert refused == 0


@pytest.mark.usefixtures("way")
def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    one, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert not other.held_by_other()
    assert not (tmp_path / "lock").exists()
    assert one.acquire()
    assert one.acquire()
    assert not one.held_by_other()
    assert other.held_by_other()
    assert not other.acquire()
    one.release()
    assert not other.held_by_other()
    assert other.acquire()
    other.write(b"a longer text")
    other.write(b"text")
    assert (tmp_path / "lock").read_bytes() == b"text"


@pytest.mark.usefixtures("way")
def test_a_lock_that_nobody_refers_to_is_free(tmp_path: Path) -> None:
    assert Lock(tmp_path / "lock").acquire()
    assert not Lock(tmp_path / "lock").held_by_other()


@pytest.mark.interpreter
@pytest.mark.usefixtures("way")
def test_a_lock_is_handed_over_without_a_gap_and_ends_with_its_holder(tmp_path: Path) -> None:
    ours, look = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert ours.acquire()
    assert ours.descriptor is not None
    code = """
import sys
from pathlib import Path
from kaptain_magics.files import Lock
lock = Lock(Path(sys.argv[1]))
lock.adopt(int(sys.argv[2]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "lock"), str(ours.descriptor)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[ours.descriptor])
    ours.release()
    with child:
        assert look.held_by_other()
        assert child.stdout is not None
        assert child.stdout.readline() == b"True\n"
        assert look.held_by_other()
        child.kill()
    assert not look.held_by_other()


def test_a_servers_state_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with ExitStack() as stack:
        hold_state(path, 8080, stack)
        assert path.read_text() == f'{{"pid":{os.getpid()},"port":8080}}\n'
        assert Lock(path).held_by_other()
        with pytest.raises(ServingError, match="another running server"), ExitStack() as other:
            hold_state(path, 8081, other)
    assert not Lock(path).held_by_other()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()

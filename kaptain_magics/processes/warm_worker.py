"""A warm worker as its clients see it: found by what it has imported, started where it does not run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaptain_magics.errors import ConfigError, KaptainError, TargetError
from kaptain_magics.files import Lock
from kaptain_magics.processes.environment_mark import NO_MARK
from kaptain_magics.processes.idle_workers import make_room, retire
from kaptain_magics.processes.process_attributes import inherited
from kaptain_magics.processes.protocol import (
    SLICE,
    Cancelled,
    StartCancelledError,
    connect,
    exchange,
    readable,
    worker_folder,
)
from kaptain_magics.processes.seeds import grow
from kaptain_magics.runtime.threads import THREAD_VARIABLES

CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"  # Apple's frameworks do not survive a fork
_ZYGOTE = Path(__file__).with_name("zygote.py")
_VOLATILE = (
    "KAPTAIN_", "PYTEST_", "JPY_", "LINES", "COLUMNS", "_", "OLDPWD", "PWD", "SHLVL", "CLICOLOR", "GIT_PAGER", "PAGER",
)  # fmt: skip
_IDLE = 180.0  # seconds without a job after which a worker ends; KAPTAIN_WARM_IDLE says otherwise
_RESERVE = "KAPTAIN_WARM_RESERVE"  # bytes of memory that idle workers leave free; see ``memory.shortage``
_CUDA = ("torch", "tensorflow", "jax", "cupy")


class WarmWorker:
    """A worker that has imported what jobs need; shared by every process of this user that needs the same.

    Args:
        preload: The import statements that it executes before its first job.
        env: The environment that it imports them in.
        python: The interpreter.
        later: Statements that it executes when it has nothing to do.
        seed: Whether it runs no jobs, and forks further workers instead; see ``seeds``.
        owner: Process id of a kernel: a worker that was started for kernels, in the background, ends with the last of
            them unless it has run a job.
    """

    def __init__(
        self,
        preload: Sequence[str],
        env: Mapping[str, str],
        python: str = sys.executable,
        later: Sequence[str] = (),
        seed: bool = False,
        owner: int = 0,
    ) -> None:
        self._preload, self._env, self._python, self._later = preload, env, python, later
        self._seed, self._owner = seed, owner
        self.usable = CAN_FORK and not _needs_cuda(preload)
        self._path: Path | None = None
        self._idle = _number("KAPTAIN_WARM_IDLE", _IDLE)
        self._reserve = _number(_RESERVE, None)
        self._notes: list[str] = []

    def take_notes(self) -> list[str]:
        """Return, once, the notes for the user about starts of this worker."""
        notes, self._notes = self._notes, []
        return notes

    def start(self) -> None:
        """Have the worker started in the background, so that a later job finds it ready."""
        if self.usable:
            with contextlib.suppress(OSError, KaptainError):
                self.connect().close()

    def make_ready(self, cancelled: Cancelled) -> None:
        """Have the worker started for its owner, and wait until it has imported what it shall."""
        if self.usable:
            with contextlib.suppress(OSError, ValueError, KaptainError), self.connect(cancelled) as connection:
                exchange(connection, {"do": "own", "owner": self._owner}, (), cancelled)

    def connect(self, cancelled: Cancelled = lambda: False) -> socket.socket:
        """Return a connection to the worker, which may still import; it is started when it does not run.

        Args:
            cancelled: Asked now and then whether the worker is not wanted any more.

        Raises:
            TargetError: It did not start.
        """
        if self._path is None:
            kept = sorted((k, v) for k, v in self._env.items() if not k.startswith(_VOLATILE))
            stamp = [os.stat(p).st_mtime_ns for p in sys.path if p.endswith("-packages") and Path(p).is_dir()]
            ours = max(p.stat().st_mtime_ns for p in Path(__file__).parents[1].rglob("*.py"))
            like = _digest([self._python, kept, stamp, ours, inherited()])  # what a seed and its workers share
            own = _digest([list(self._preload), list(self._later), self._seed])
            self._path = worker_folder() / f"{like}-{own}"
        return connect(self._path) or self._begin(self._path, cancelled)

    def _begin(self, path: Path, cancelled: Cancelled) -> socket.socket:
        lock = Lock(path.with_suffix(".lock"))
        while not lock.acquire():  # another process starts it
            if cancelled():
                raise StartCancelledError
            time.sleep(0.005)
        try:
            connection = connect(path)
            if connection is not None:
                return connection
            path.unlink(missing_ok=True)
            self._make_room(path)
            options = {
                "socket": str(path),
                "preload": list(self._preload),
                "later": list(self._later),
                "idle": self._idle,
                "reserve": self._reserve,
                "seed": self._seed,
                "owner": self._owner,
            }
            if not grow(path, options, cancelled):
                spawn_zygote(options, self._env, self._python, cancelled=cancelled)
            connection = connect(path)
            if connection is not None:
                return connection
        finally:
            lock.release()
        raise TargetError("the warm worker did not start", "set KAPTAIN_WARM=false to do without it")

    def _make_room(self, path: Path) -> None:
        """Keep idle workers few, and within the memory that there is, before one more is started."""
        needed, ended = 0, ""
        with contextlib.suppress(OSError, ValueError, KeyError):
            before = json.loads(Path(f"{path}.json").read_bytes())  # what the last worker of this kind wrote down
            needed, ended = int(before["memory"]), str(before["ended"])
        if ended:
            self._notes.append(f"Importing again, since the warm worker was ended: {ended}.")
        retire(path.parent, self._idle)
        note = make_room(path.parent, self._reserve, needed)
        if note:
            self._notes.append(note)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _number(variable: str, default: float | None) -> Any:
    text = os.environ.get(variable, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise ConfigError(f"{variable}={text!r} is not a number", f"set {variable} to a number, or unset it") from None


def _needs_cuda(preload: Sequence[str]) -> bool:
    roots = {word.partition(".")[0] for statement in preload for word in statement.split()[1:2]}
    return any(module in roots for module in _CUDA) and Path("/dev/nvidiactl").exists()


def spawn_zygote(
    options: Mapping[str, Any],
    env: Mapping[str, str],
    python: str,
    pass_fds: tuple[int, ...] = (),
    cancelled: Cancelled = lambda: False,
) -> int:
    """Start a worker and return its process id once it can be connected to; 0 where it has ended before that."""
    ready, theirs = os.pipe()
    try:
        full = {**env, **(dict.fromkeys(THREAD_VARIABLES, "1") if "preload" in options else {})}
        full |= {"KAPTAIN_ZYGOTE": json.dumps({**options, "ready": theirs}), "KAPTAIN_JOB": NO_MARK}
        try:
            child = subprocess.Popen(
                [python, "-P", str(_ZYGOTE)], env=full, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True, pass_fds=(theirs, *pass_fds),
            )  # fmt: skip
        except OSError as error:
            raise TargetError(f"cannot start {python}: {error}", "check that this Python exists") from error
        finally:
            os.close(theirs)
        try:
            while not readable(ready, SLICE):
                if cancelled():
                    raise StartCancelledError
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()  # the worker goes on as a grandchild that init reaps
        return int(os.read(ready, 64) or 0)
    finally:
        os.close(ready)

"""Processes of jobs: forked from a warm worker, or fresh; both ended whole, both watched by a connection.

Where the platform can fork, a fresh process is a worker that has imported nothing and forks once: one way to start, to
watch and to end a job. Elsewhere the launcher runs as a plain child process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.files import Lock
from kaptain_magics.runtime.forked import LOCK_VARIABLE
from kaptain_magics.runtime.orphans import NO_MARK
from kaptain_magics.runtime.threads import THREAD_VARIABLES
from kaptain_magics.sockets import connect_unix, user_folder
from kaptain_magics.targets.local.inherited import inherited
from kaptain_magics.targets.local.protocol import SLICE, Cancelled, StartCancelledError, ask, exchange, readable

CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"  # Apple's frameworks do not survive a fork
_ZYGOTE = Path(__file__).with_name("zygote.py")
_VOLATILE = (
    "KAPTAIN_", "PYTEST_", "JPY_", "LINES", "COLUMNS", "_", "OLDPWD", "PWD", "SHLVL", "CLICOLOR", "GIT_PAGER", "PAGER",
)  # fmt: skip
_WORKERS = 12  # idle workers of a user at most
_ATTEMPTS = 2  # to start a job from a warm worker, which may just be ending
_IDLE = 180.0  # seconds without a job after which a worker ends; KAPTAIN_WARM_IDLE says otherwise
_CUDA = ("torch", "tensorflow", "jax", "cupy")


class Exit:
    """How a process ended.

    Attributes:
        code: Exit code; negative for a signal; ``None`` when nobody could tell any more.
        rss: Most bytes of memory that it held.
        cpu: Seconds of processor time.
    """

    def __init__(self, code: int | None, rss: int = 0, cpu: float = 0.0) -> None:
        self.code, self.rss, self.cpu = code, rss, cpu


class Process:
    """A running job behind a worker's connection."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self.exit: Exit | None = None
        self._connection = connection
        self._heard = b""
        weakref.finalize(self, connection.close)  # a job that nobody watches ends, unless it is detached

    def wait(self, timeout: float) -> Exit | None:
        """Return how it ended, or ``None`` when it still runs after so many seconds."""
        if self.exit is None and readable(self._connection, timeout):
            try:
                more = self._connection.recv(65536)
            except OSError:
                more = b""
            self._heard += more
            if self._heard.endswith(b"\n"):
                answer = json.loads(self._heard)
                self.exit = Exit(answer["exit"], answer["rss"], answer["cpu"])
            elif not more:  # the worker was killed: nobody else waits for the job
                self.kill(signal.SIGKILL)
                self.exit = Exit(None)
            if self.exit is not None:
                self._connection.close()
        return self.exit

    def kill(self, number: int) -> None:
        """Send a signal to the job's whole process group."""
        if self.exit is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def leave(self) -> None:
        """Stop watching a detached process."""
        self._connection.close()


class PlainProcess(Process):
    """A job as a child process, where nothing can fork."""

    def __init__(self, child: subprocess.Popen[bytes], exit_path: str) -> None:
        self._child, self._exit_path = child, exit_path
        self.pid, self.exit = child.pid, None

    def wait(self, timeout: float) -> Exit | None:
        """Return how it ended, or ``None`` when it still runs after so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.exit = Exit(self._child.wait(timeout))
            if self._exit_path:
                Path(self._exit_path).write_text(json.dumps({"exit": self.exit.code, "rss": 0, "cpu": 0.0}))
        return self.exit

    def kill(self, number: int) -> None:
        """End the process; its group too where there is one."""
        if hasattr(os, "killpg"):
            super().kill(number)
        else:
            self._child.kill()

    def leave(self) -> None:
        """Let go of the child: it may outlive this process without a warning."""
        self._child.returncode = self._child.poll() or 0


def threads_for(cores: float | None, sharing: int = 1) -> int:
    """Return how many threads numerical libraries may use.

    Args:
        cores: The cores of the job; ``None`` for all that there are.
        sharing: Jobs that share those at the same time.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, available // sharing if cores is None else int(-(-cores // 1))))


class WarmWorker:
    """A worker that has imported what jobs need; shared by every process of this user that needs the same.

    Args:
        preload: The import statements that it executes before its first job.
        env: The environment that it imports them in.
        python: The interpreter.
        later: Statements that it executes when it has nothing to do.
    """

    def __init__(
        self,
        preload: Sequence[str],
        env: Mapping[str, str],
        python: str = sys.executable,
        later: Sequence[str] = (),
    ) -> None:
        self._preload, self._env, self._python, self._later = preload, env, python, later
        self.usable = CAN_FORK and not _wants_cuda(preload)
        self._path: Path | None = None

    def start(self) -> None:
        """Have the worker started in the background, so that a later job finds it ready."""
        if self.usable:
            with contextlib.suppress(OSError, KaptainError):
                self.connect().close()

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
            ours = max(p.stat().st_mtime_ns for p in Path(__file__).parents[2].rglob("*.py"))
            key = json.dumps([self._python, list(self._preload), list(self._later), kept, stamp, ours, inherited()])
            self._path = _socket_folder() / hashlib.sha256(key.encode()).hexdigest()[:24]
        return _connect(self._path) or self._begin(self._path, cancelled)

    def _begin(self, path: Path, cancelled: Cancelled) -> socket.socket:
        lock = Lock(path.with_suffix(".lock"))
        while not lock.acquire():  # another process starts it
            if cancelled():
                raise StartCancelledError
            time.sleep(0.005)
        try:
            connection = _connect(path)
            if connection is not None:
                return connection
            path.unlink(missing_ok=True)
            idle = float(os.environ.get("KAPTAIN_WARM_IDLE", _IDLE))
            _retire(path.parent, idle)
            options = {"socket": str(path), "preload": list(self._preload), "later": list(self._later), "idle": idle}
            _spawn_zygote(options, self._env, self._python, cancelled=cancelled)
            connection = _connect(path)
            if connection is not None:
                return connection
        finally:
            lock.release()
        raise TargetError("the warm worker did not start", "set KAPTAIN_WARM=false to do without it")


def start(
    request: Mapping[str, Any],
    output: int,
    *,
    python: str = sys.executable,
    warm: WarmWorker | None = None,
    lock: int | None = None,
    cancelled: Cancelled = lambda: False,
) -> Process:
    """Start a job; waits as long as its worker imports what the job needs.

    Args:
        request: What ``zygote`` documents: plan, env, cwd, exit_path, detached, threads.
        output: File descriptor of the job's standard output and error; stays open here.
        python: The interpreter that runs it.
        warm: The worker to fork from; ``None``, or one that cannot fork safely, makes a fresh process.
        lock: File descriptor of a lock that the job is to hold too; stays open here.
        cancelled: Asked now and then whether the job is not wanted any more. A worker that still imports is ended then:
            it may hang.

    Raises:
        StartCancelledError: It was not wanted any more; there is no job.
        TargetError: No process can be started.
    """
    if not CAN_FORK:
        return _start_plain(request, output, python, lock)
    descriptors = [output] if lock is None else [output, lock]
    for _ in range(_ATTEMPTS if warm is not None and warm.usable else 0):
        assert warm is not None
        try:
            connection = warm.connect(cancelled)
            pid = ask(connection, request, descriptors, cancelled)
        except StartCancelledError:
            raise
        except (OSError, ValueError, KaptainError):
            continue
        if pid is not None:
            return Process(connection, pid)
        warm.usable = False  # its imports left a thread behind
        break
    ours, theirs = socket.socketpair()
    try:
        worker = _spawn_zygote({"fd": theirs.fileno()}, request["env"], python, (theirs.fileno(),), cancelled)
    except TargetError:
        ours.close()
        raise
    finally:
        theirs.close()
    pid = None
    with contextlib.suppress(OSError, ValueError):
        pid = ask(ours, request, descriptors, cancelled, worker)
    if pid is None:
        raise TargetError("a process for the job could not be started", "%kaptain doctor looks for the cause")
    return Process(ours, pid)


def _wants_cuda(preload: Sequence[str]) -> bool:
    roots = {word.partition(".")[0] for statement in preload for word in statement.split()[1:2]}
    return any(module in roots for module in _CUDA) and Path("/dev/nvidiactl").exists()


def _start_plain(request: Mapping[str, Any], output: int, python: str, lock: int | None) -> Process:
    folder = Path(request["cwd"])
    plan = dict(request["plan"])
    if "module" in plan:
        command = [python, "-m", plan["module"], *plan["argv"]]
    else:
        path = folder.parent / "plan.json"
        path.write_text(json.dumps(plan), encoding="utf-8")
        command = [python, "-u", "-m", "kaptain_magics.runtime.launch", str(path)]
    env = dict(request["env"])
    if lock is not None:
        env[LOCK_VARIABLE] = str(lock)
    try:
        child = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=hasattr(os, "setsid"), pass_fds=() if lock is None else (lock,),
        )  # fmt: skip
    except OSError as error:
        raise TargetError(f"a process for the job could not be started: {error}", "check the Python of --on") from error
    return PlainProcess(child, request.get("exit_path", ""))


def idle_workers(leave: bool = False) -> list[int]:
    """Return the ids of warm workers of this user that have no job.

    Args:
        leave: Tell them to end; the sockets of those that were told are gone when this returns.
    """
    found = []
    if CAN_FORK:
        for path in sorted(_socket_folder().iterdir()):
            if path.is_socket() and not path.suffix:  # others belong to servers
                answer = _question(path, "status")
                if answer.get("jobs") == 0:
                    found.append(int(answer["pid"]))
                    if leave:
                        _question(path, "leave")
    return found


def _question(path: Path, what: str) -> dict[str, Any]:
    """Ask a worker about itself; one that imports, or is just ending, has no answer."""
    connection = _connect(path, used=False)
    if connection is None:
        return {}
    until = time.monotonic() + 1.0
    with connection, contextlib.suppress(OSError, ValueError, TargetError):
        return exchange(connection, {"do": what}, (), lambda: time.monotonic() > until)
    return {}


def _socket_folder() -> Path:
    """Return the folder of this user's workers; no other socket lies in it."""
    folder = user_folder() / "workers"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _retire(folder: Path, idle: float) -> None:
    """Let go of the oldest workers where there are many; without a socket they end when they have nothing to do.

    Sockets of workers that were killed are removed too.

    Args:
        folder: The workers' folder.
        idle: Seconds of which an idle worker does not live longer.
    """
    with contextlib.suppress(OSError):
        sockets = sorted((path.stat().st_mtime, path) for path in folder.iterdir() if path.is_socket())
        dead = [path for used, path in sockets if time.time() - used > idle and not _answers(path)]
        living = [path for _, path in sockets if path not in dead]
        for path in (*dead, *living[: max(0, len(living) - _WORKERS + 1)]):
            path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether a worker listens; asked only of those that are busy or dead, since it makes an idle one live longer."""
    with contextlib.suppress(OSError):
        connect_unix(path, 1.0).close()
        return True
    return False


def _connect(path: Path, used: bool = True) -> socket.socket | None:
    try:
        connection = connect_unix(path)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if used:
            os.utime(path)  # when it was used last
    return connection


def _spawn_zygote(
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
            raise TargetError(f"{python} cannot be started: {error}", "check that this Python exists") from error
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
            child.wait()  # the worker goes on as a grandchild: nobody here has to wait for its end
        return int(os.read(ready, 64) or 0)
    finally:
        os.close(ready)

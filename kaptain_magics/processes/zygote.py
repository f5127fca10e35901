"""A warm worker: imports a script's libraries once and forks a process for every job.

A fork costs milliseconds where the imports of a script cost seconds, and shares their memory. It is safe because the
worker never computes anything itself and has one thread (``preload`` looks). Where it is not, the worker says so and
forks nothing; the fallback is a fresh process, which is a worker without imports that forks once.

The protocol. A client connects to the worker's socket and sends one line of JSON, with a file descriptor attached for
the job's output, and perhaps another one with the lock of a run, whose number the job finds in ``KAPTAIN_RUN_LOCK``:

``{"program": {...}, "env": {...}, "cwd": "...", "exit_path": "...", "detached": false, "threads": 1}``

The job itself answers ``{"pid": ...}``: an answer means that it runs, and a client without one may ask another worker.
Else the worker answers ``{"unsafe": reason}``. When the job has ended, the worker sends ``{"exit": code, "rss": bytes,
"cpu": seconds}``. A client that hangs up ends its job, unless the job is detached or has not been forked yet: then it
never is.

A seed (``seeds``) runs no jobs. ``{"do": "grow", "options": {...}}`` has it fork a worker with these options, which
answers ``{"pid": ...}`` when it listens. ``{"do": "own", "owner": pid}`` tells a worker that a kernel counts on it.

``{"do": "status"}`` without a descriptor is answered with ``{"pid": ..., "jobs": ...}``; so is ``{"do": "leave",
"reason": ...}``, and the worker ends when its last job has. SIGTERM does the same, and ends at once one that still
imports.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import socket
import stat
import sys
import time
from typing import Any, NoReturn

from kaptain_magics.processes import forked, memory
from kaptain_magics.processes.answers import has_hung_up, receive, send_answer
from kaptain_magics.processes.background import NICENESS
from kaptain_magics.processes.interpreter_exit import finish
from kaptain_magics.processes.orphans import end_job, is_running
from kaptain_magics.processes.preload import preload

_CHECK_INTERVAL = 2.0  # seconds between looks at its own idleness, and at the memory
_SUBREAPER = 36  # prctl: orphans of a job become children of this process, so that they can be ended with it


class Job:
    """A forked job and the client that waits for it."""

    def __init__(self, pid: int, connection: socket.socket, request: dict[str, Any]) -> None:
        self.pid = pid
        self.connection: socket.socket | None = connection
        self.mark = str(request["env"].get("KAPTAIN_JOB", ""))
        self.exit_path: str = request.get("exit_path", "")
        self.detached: bool = request.get("detached", False)


class Zygote:
    """The worker's loop.

    Args:
        listener: The socket that clients connect to; ``None`` serves the one client of ``first`` and ends.
        first: A client that is connected already.
        unsafe: Why nothing may be forked.
        later: Import statements for the first quiet moment.
        idle: Seconds without a job after which the worker ends itself; it does so too when its socket was removed, or
            when it was asked to leave.
        path: The listening socket's path.
        reserve: Bytes of memory that are to stay free; see ``memory.shortage``.
        seed: What a seed has imported; ``None`` for a worker that runs jobs.
        owner: The kernel that it was started for in the background: it ends with that one unless it has run a job.
    """

    def __init__(
        self,
        listener: socket.socket | None,
        first: socket.socket | None = None,
        unsafe: str = "",
        later: list[str] | None = None,
        idle: float = math.inf,
        path: str = "",
        reserve: float | None = None,
        seed: list[str] | None = None,
        owner: int = 0,
    ) -> None:
        self.listener, self.unsafe, self.later, self.idle, self.path = listener, unsafe, later, idle, path
        self.reserve, self.low_memory_checks, self.seed = reserve, 0, seed
        self.owners = {owner} - {0}
        self.niceness = NICENESS if owner else 0  # of imports in the background
        self.inode = 0  # of the socket's name; already gone where another process has retired this worker
        if listener is not None:
            with contextlib.suppress(OSError):
                self.inode = os.stat(path).st_ino
        self.jobs: dict[int, Job] = {}
        self.selector = selectors.DefaultSelector()
        self.wakeup, writer = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._leave)
        self.selector.register(self.wakeup, selectors.EVENT_READ)
        if listener is not None:
            self.selector.register(listener, selectors.EVENT_READ)
        self.waiting = 0
        if first is not None:
            self._await_request(first)

    def serve(self) -> None:
        """Serve until the worker may end.

        With jobs, or with clients whose request has not come yet, it goes on. Without, three things
        end it: ``idle`` seconds have passed, its socket is gone (it was retired or asked to leave), or memory is
        short for longer than it takes the workers that were used before it to give way. ``later`` is imported when
        nothing has come for 0.3 s. A worker of one client ends with that one's job.
        """
        quiet_since = time.monotonic()
        self._write_kind()
        while self.listener is not None or self.jobs or self.waiting:
            ready = self.selector.select(timeout=0.3 if self.later else min(_CHECK_INTERVAL, self.idle))
            if self.later and not ready:
                self.unsafe, self.later = preload(self.later, self.niceness), None
                self._write_kind()
            for key, _ in ready:
                quiet_since = time.monotonic()
                if key.fileobj is self.listener:
                    self._await_request(self.listener.accept()[0])
                elif key.fd == self.wakeup:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wakeup, 4096)
                    self._reap()
                else:
                    self._on_readable(key)
            if self.jobs or self.waiting:
                continue
            if time.monotonic() - quiet_since > self.idle or self._retired() or self._has_lost_owners():
                return
            if not ready and self._frees_memory():
                return

    def _has_lost_owners(self) -> bool:
        """Whether the kernels that it was started for have all ended; never so once it has run a job."""
        living = {pid for pid in self.owners if is_running(pid)}
        lost, self.owners = bool(self.owners) and not living, living
        return lost

    def _frees_memory(self) -> bool:
        """Whether this idle worker ends because memory is short.

        All idle workers look at the memory, each by itself. The one that was used longest ago ends at the first look,
        the next one at the second, and so on: those that follow see first what that has freed.
        """
        shortage = memory.shortage(self.reserve) if self.listener is not None else ""
        self.low_memory_checks = self.low_memory_checks + 1 if shortage else 0
        if self.low_memory_checks <= _older(self.path):
            return False
        self._leave()
        self._write_kind(shortage)
        return True

    def _write_kind(self, ended: str = "") -> None:
        """Write down, for the next worker of this kind, what this one holds, and why it was ended."""
        if self.listener is not None:
            seed = self.seed if not (ended or self.unsafe) else None
            kind = {"memory": memory.own_bytes(os.getpid()), "ended": ended, "seed": seed}
            _write_json(f"{self.path}.json", kind)

    def _leave(self, *_: object) -> None:
        """Take no new clients, and end when the jobs have."""
        if self.listener is not None and not self._retired():
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def _retired(self) -> bool:
        """Whether this worker cannot be found any more: there were too many, or it was asked to leave."""
        return self.listener is not None and not _is_at(self.path, self.inode)

    def _await_request(self, connection: socket.socket) -> None:
        self.waiting += 1
        self.selector.register(connection, selectors.EVENT_READ, None)

    def _on_readable(self, key: selectors.SelectorKey) -> None:
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        job: Job | None = key.data
        if job is not None:  # a client never speaks twice: it has hung up
            self.selector.unregister(connection)
            connection.close()
            job.connection = None
            if not job.detached:
                self._end_group(job)
            return
        self.selector.unregister(connection)
        self.waiting -= 1
        try:
            connection.settimeout(10.0)
            request, descriptors = receive(connection)
        except (OSError, ValueError):
            connection.close()
            return
        if "do" in request:
            if request["do"] == "leave":
                self._leave()
                self._write_kind(str(request.get("reason", "")))
            elif request["do"] == "own" and self.owners:
                self.owners.add(int(request["owner"]))
            elif request["do"] == "grow" and not self.unsafe and not has_hung_up(connection):
                if os.fork() == 0:
                    self._grow(request["options"], connection)
                connection.close()
                return
            send_answer(connection, {"pid": os.getpid(), "jobs": len(self.jobs)})
            connection.close()
        elif self.unsafe or self.seed is not None or has_hung_up(connection):
            send_answer(connection, {"unsafe": self.unsafe})
            connection.close()
        else:
            self.owners.clear()
            pid = os.fork()
            if pid == 0:
                self._become(request, connection, descriptors)
            job = self.jobs[pid] = Job(pid, connection, request)
            self.selector.register(connection, selectors.EVENT_READ, job)
        for descriptor in descriptors:
            os.close(descriptor)

    def _grow(self, options: dict[str, Any], connection: socket.socket) -> NoReturn:
        """Turn the fork of a seed into a worker of its own; never returns."""
        code = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            self._close()
            _begin(options, connection)
            code = 0
        finally:
            os._exit(code)

    def _close(self) -> None:
        """Close in a fork what the worker watches."""
        self.selector.close()
        for job in self.jobs.values():
            if job.connection is not None:
                job.connection.close()
        if self.listener is not None:
            self.listener.close()
        os.close(self.wakeup)

    def _become(self, request: dict[str, Any], connection: socket.socket, descriptors: list[int]) -> NoReturn:
        """Turn the fork into the job's process; never returns."""
        code = 1
        output, *lock = descriptors
        try:
            os.setsid()
            send_answer(
                connection, {"pid": os.getpid()}
            )  # not the worker: a client that was not answered may ask again
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            connection.close()
            self._close()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(null)
            os.close(output)
            if lock:
                request["env"][forked.LOCK_VARIABLE] = str(lock[0])
            code = forked.run(request)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                code = finish() or code
            os._exit(code)

    def _reap(self) -> None:
        for pid in list(self.jobs):
            with contextlib.suppress(ChildProcessError):
                done, status, usage = os.wait4(pid, os.WNOHANG)
                if not done:
                    continue
                job = self.jobs.pop(pid)
                self._end_group(job)
                scale = 1 if sys.platform == "darwin" else 1024
                result = {
                    "exit": os.waitstatus_to_exitcode(status),
                    "rss": usage.ru_maxrss * scale,
                    "cpu": usage.ru_utime + usage.ru_stime,
                }
                if job.exit_path:
                    _write_json(job.exit_path, result)
                if job.connection is not None:
                    self.selector.unregister(job.connection)
                    send_answer(job.connection, result)
                    job.connection.close()
        with contextlib.suppress(ChildProcessError):  # adopted orphans that have ended
            own = set(self.jobs)
            while not own and os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def _end_group(self, job: Job) -> None:
        """End what is left of a job; an orphan without a mark can be any job's that has a client."""
        alone = all(other is job or other.detached for other in self.jobs.values())
        end_job(job.pid, job.mark, self.jobs, alone)


def _is_at(path: str, inode: int) -> bool:
    with contextlib.suppress(OSError):
        return os.stat(path).st_ino == inode
    return False


def _older(path: str) -> int:
    """Return how many workers were used longer ago than the one with this socket; as many as there are without it."""
    used = {}
    for entry in os.scandir(os.path.dirname(path)):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK((status := entry.stat(follow_symlinks=False)).st_mode):
                used[entry.path] = status.st_mtime
    return sum(time < used.get(path, math.inf) for time in used.values())


def _write_json(path: str, value: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        with open(os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(value, file)
        os.replace(path + ".part", path)


def main() -> None:
    """Start with the options in the environment variable ``KAPTAIN_ZYGOTE`` (JSON)."""
    options = json.loads(os.environ.pop("KAPTAIN_ZYGOTE"))
    if os.fork():  # the starter need not wait for its end
        os._exit(0)
    _begin(options)


def _begin(options: dict[str, Any], client: socket.socket | None = None) -> None:
    """Listen, import and serve until the worker may end.

    Args:
        options: What ``WarmWorker`` and ``start_process`` name.
        client: The connection to a seed that asked for this worker, which is its fork.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    first = socket.socket(fileno=options["fd"]) if "fd" in options else None
    listener = None
    if "socket" in options:  # bound before the imports: a client may connect and wait
        listener = socket.socket(socket.AF_UNIX)
        folder, name = os.path.split(options["socket"])
        os.chdir(folder)  # the path may be longer than the address of a socket
        listener.bind(name)
        os.chdir("/")
        listener.listen(128)
    if client is not None:
        send_answer(client, {"pid": os.getpid()})
        client.close()
    else:
        with contextlib.suppress(OSError):  # the starter may have gone
            os.write(options["ready"], b"%d\n" % os.getpid())
        os.close(options["ready"])
    statements, owner = options.get("preload", []), options.get("owner", 0)
    unsafe = preload(statements, NICENESS if owner else 0)
    path, idle = options.get("socket", ""), options.get("idle", math.inf)
    seed = [statement.split()[1] for statement in statements] if options.get("seed") else None
    worker = Zygote(listener, first, unsafe, options.get("later"), idle, path, options.get("reserve"), seed, owner)
    try:
        worker.serve()
    finally:
        if listener is not None and _is_at(options["socket"], worker.inode):
            with contextlib.suppress(OSError):
                os.unlink(options["socket"])


if __name__ == "__main__":
    main()

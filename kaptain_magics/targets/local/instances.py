"""Server processes of the local target: started, asked, ended, and recognised again from any other process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from kaptain_magics.core.failures import Failure
from kaptain_magics.core.names import new_hex
from kaptain_magics.errors import ServingError
from kaptain_magics.files import Lock, open_append, private_folder, write_whole
from kaptain_magics.sockets import can_listen, connect_unix, user_folder

SERVER, ROUTER = "kaptain_magics.serving", "kaptain_magics.serving.router"

_DRAIN_TIMEOUT = 30.0  # seconds for requests in work when their server is followed by another one
_LOOK = "look at the model and at the requirements of its deployment"
HUNG = 5.0  # seconds for a server to say that it lives, and for one that does not to leave before it is killed

_T = TypeVar("_T", bound=msgspec.Struct)
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


class Started(Protocol):
    """A process that was just started."""

    def poll(self) -> int | None:
        """Return its exit code once it has ended, negative for a signal; ``None`` while it lives or is out of sight."""


class Launch(Protocol):
    """Starts a server: in a session of its own, its output appended to a file, outliving the process that starts it."""

    def __call__(self, module: str, argv: Sequence[str], env: Mapping[str, str], log: Path, python: str) -> Started:
        """Run a module as ``python -m module argv`` would.

        Args:
            module: The module.
            argv: Its command line.
            env: Its whole environment.
            log: File that its output is appended to.
            python: The interpreter that it needs.
        """


class ServerInfo(msgspec.Struct):
    """What a server writes into ``state.json`` once it listens."""

    pid: int
    port: int


class _Sockets(msgspec.Struct):
    """Where a server makes its sockets."""

    control: str = ""
    private: str = ""


class ExitRecord(msgspec.Struct):
    """How a process ended, as the worker that it was forked from wrote it down."""

    exit: int


class Instance:
    """One server process, or the router, of an endpoint.

    Its sockets lie in its own folder, where nothing but its own end removes them. Where they were made is written
    down, so that it does not depend on who looks.

    Args:
        folder: Its folder, whose name is its id.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state.json"
        self.log = folder / "log.txt"
        self.options = folder / "options.json"
        self.failure_file = folder / "failure.json"
        self.exit = folder / "exit.json"
        sockets = _read(self.options, _Sockets) or _Sockets()
        self.control = Path(sockets.control or folder / "control")
        self.private = Path(sockets.private or folder / "private")

    @classmethod
    def make(cls, endpoint: Path) -> Instance:
        """Make a folder for a new server, and places for its sockets: there, or where the file system has sockets."""
        instance = cls(endpoint / f"i-{new_hex(12)}")
        private_folder(instance.folder)
        if not can_listen(instance.folder):
            sockets = user_folder()
            instance.control = sockets / f"{instance.folder.name}.control"
            instance.private = sockets / f"{instance.folder.name}.private"
        return instance

    def start(
        self, launch: Launch, module: str, options: Mapping[str, Any], env: Mapping[str, str], python: str
    ) -> Started:
        """Write the options down and start the process."""
        write_whole(self.options, msgspec.json.encode(options))
        return launch(module, ["--options", str(self.options)], env, self.log, python)

    @property
    def address(self) -> dict[str, str]:
        """The sockets on which other servers reach it, as they take them in commands."""
        return {"control": str(self.control), "private": str(self.private)}

    @property
    def alive(self) -> bool:
        """Whether the process lives: it holds a lock that only its death releases, whatever its id is worth now."""
        return Lock(self.state).held_by_other()

    @property
    def info(self) -> ServerInfo | None:
        """Process id and port; ``None`` until the server listens."""
        return _read(self.state, ServerInfo)

    @property
    def ended(self) -> ExitRecord | None:
        """How the process ended; ``None`` while it runs, and where its starter died before it."""
        return _read(self.exit, ExitRecord)

    def ask(self, command: Mapping[str, Any], timeout: float = 15.0) -> dict[str, Any]:
        """Send a command; empty when the process does not answer."""
        try:
            with connect_unix(self.control, timeout) as connection:
                connection.sendall(msgspec.json.encode(command) + b"\n")
                answer = b""
                while not answer.endswith(b"\n") and (more := connection.recv(65536)):
                    answer += more
            return dict(msgspec.json.decode(answer))
        except (OSError, msgspec.MsgspecError):
            return {}

    def end(self) -> None:
        """Ask the process to answer what is in flight and to leave."""
        self._signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait for the process to leave, then end it."""
        until = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > until:
                self._signal(signal.SIGKILL)
                until += 5.0
            time.sleep(0.02)

    def _signal(self, number: signal.Signals) -> None:
        info = self.info
        if info is not None and self.alive:  # the id is the process's only as long as it lives
            with suppress(ProcessLookupError, PermissionError):
                os.kill(info.pid, number)

    def remove(self) -> None:
        """Remove what an ended process left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in (self.control, self.private):
            path.unlink(missing_ok=True)

    @property
    def failure(self) -> Failure | None:
        """Why the process ended by itself, where it could say so."""
        try:
            return Failure.read(self.failure_file.read_bytes())
        except OSError:
            return None

    def log_end(self) -> str:
        """Return the log's last lines in one line."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return " | ".join(_STAMP.sub("", line).strip() for line in lines[-3:] if line.strip())


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def launch_process(module: str, argv: Sequence[str], env: Mapping[str, str], log: Path, python: str) -> Started:
    """Start a module as a fresh process; see ``Launch``."""
    with open_append(log) as output:
        process = subprocess.Popen(
            [python, "-m", module, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            cwd=log.parent,
            start_new_session=True,
        )
    return _DetachedProcess(process)


class _DetachedProcess:
    """A child that may outlive its parent without a warning."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._pid = process.pid
        self._code: int | None = None
        process.returncode = 0  # Popen shall neither wait for it nor warn

    def poll(self) -> int | None:
        if self._code is None:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self._pid, os.WNOHANG)
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
        return self._code


def wait_ready(instance: Instance, started: Started, until: float, cancelled: Callable[[], bool]) -> None:
    """Wait until a server has its model.

    Args:
        instance: The server.
        started: Its process.
        until: ``time.monotonic()`` at which to give up.
        cancelled: Asked now and then.

    Raises:
        ServingError: It ended, took too long, or the deployment was cancelled.
    """
    pause = (
        0.005  # seconds; a small model is loaded in a few of these, a large one needs no more than 20 looks a second
    )
    while True:
        if instance.ask({"do": "status"}).get("ready"):
            return
        code = started.poll()
        if code is not None:
            raise _ended(instance, code)
        if cancelled():
            raise ServingError("the deployment was stopped", "deploy it again")
        if time.monotonic() > until:
            raise ServingError(f"the model was not loaded in time: {instance.log_end()}", "raise --timeout")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)


def retire(leaving: Sequence[Instance], follower: Instance) -> None:
    """Give the requests of servers to another one, which takes them already; they end when all is answered.

    Their idle clients keep their connections. When this returns, what they worked on is answered, and nothing that
    comes later is answered by them.
    """
    for instance in leaving:
        if not instance.ask({"do": "retire", "to": follower.address}, _DRAIN_TIMEOUT):
            instance.end()  # it hangs, or is dead
            instance.wait(HUNG)
    _finish(leaving)


def release(stable: Instance, router: Instance) -> None:
    """Give the clients of a server to the router that stands before it now."""
    stable.ask({"do": "release", "to": {"control": str(router.control)}}, _DRAIN_TIMEOUT)
    _finish([stable])


def _finish(instances: Sequence[Instance]) -> None:
    """Wait until servers have answered what they worked on when their requests became another one's."""
    until = time.monotonic() + _DRAIN_TIMEOUT
    for instance in instances:
        while time.monotonic() < until and instance.alive:
            answer = instance.ask({"do": "status"}, 5.0)
            if answer and not answer.get("finishing"):
                break
            time.sleep(0.005)


def _ended(instance: Instance, code: int) -> ServingError:
    """Return the error for a server that ended before it was ready."""
    failure, last = instance.failure, instance.log_end()
    if failure is not None:
        return ServingError(failure.error, failure.hint or _LOOK)
    if code < 0:
        return ServingError(f"the server was killed by {_signal_name(-code)}: {last}".rstrip(": "), _LOOK)
    return ServingError(f"the server ended with exit code {code}: {last}".rstrip(": "), _LOOK)


def why_dead(instance: Instance) -> str:
    """Return why a server that had its requests is gone."""
    failure, words, ended = instance.failure, instance.log_end(), instance.ended
    if failure is not None:
        return f"its server ended: {failure.error}"
    last = f"; its log ends with: {words}" if words else ""
    if ended is None:
        return f"its server was killed, or the machine was restarted{last}"
    if ended.exit < 0:
        return f"its server was killed by {_signal_name(-ended.exit)}{last}"
    if ended.exit == 0:
        return f"its server was stopped from outside (SIGTERM){last}"
    return f"its server ended with exit code {ended.exit}{last}"


def _signal_name(number: int) -> str:
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    return f"{name}, perhaps because memory ran out" if number == signal.SIGKILL else name

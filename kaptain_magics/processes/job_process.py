"""A running process, seen from the one that started it: waited for by a connection, ended as a group."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import weakref
from pathlib import Path

from kaptain_magics.processes.protocol import readable


class Exit:
    """How a process ended.

    Attributes:
        code: Exit code; negative for a signal; ``None`` when it cannot be known any more.
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
        self._answer = b""
        weakref.finalize(self, connection.close)  # a job without a watcher ends, unless it is detached

    def wait(self, timeout: float) -> Exit | None:
        """Return how it ended, or ``None`` when it still runs after so many seconds."""
        if self.exit is None and readable(self._connection, timeout):
            try:
                more = self._connection.recv(65536)
            except OSError:
                more = b""
            self._answer += more
            if self._answer.endswith(b"\n"):
                answer = json.loads(self._answer)
                self.exit = Exit(answer["exit"], answer["rss"], answer["cpu"])
            elif not more:  # the worker was killed: no other process waits for the job
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
        """Hang up: a detached process goes on, any other one is ended by its worker."""
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

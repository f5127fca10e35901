"""Several server processes on one port: a parent that forks them, passes commands on and replaces the dead."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kaptain_magics.serving.control import ControlSocket, ask_worker, taken
from kaptain_magics.serving.inference.metrics import Metrics
from kaptain_magics.serving.process.launch_options import Options

logger = logging.getLogger("kaptain.serving")

NOT_LOADED = 3  # exit code of a worker that cannot load the model: there is no use in another one

_SECONDS = 0.5  # between two looks at the workers where no signal came


class Workers:
    """The parent of several servers. It has no loop and no threads, so that forking is safe at any time.

    Args:
        options: What the servers are started with.
        metrics: Where they count.
        listeners: The listening sockets that the children share.
        serve: Serves in a child, given its end of the channel for commands; returns the exit code.
    """

    def __init__(
        self,
        options: Options,
        metrics: Metrics,
        listeners: Sequence[socket.socket],
        serve: Callable[[socket.socket], int],
    ) -> None:
        self._options = options
        self._metrics = metrics
        self._listeners = listeners
        self._serve = serve
        self._children: dict[int, tuple[int, socket.socket]] = {}  # by process id: number and channel
        self._accepting = not options.hold
        self._commanded = not options.hold
        self._stopping = False
        self._retired = False
        self._deadline = float("inf")
        self._code = 0

    def run(self, control: ControlSocket | None) -> int:
        """Serve until a signal ends it; returns the exit code.

        One loop with three clocks: until a command activates a held server, ``patience`` ends it; after that nothing
        does; once it stops, workers that have not drained at ``_deadline`` are killed. A signal, a command, or
        ``_SECONDS`` wake it; every time it replaces workers that died, and it returns when none is left.
        """
        wakeup_reader, wakeup_writer = os.pipe()
        os.set_blocking(wakeup_reader, False)
        os.set_blocking(wakeup_writer, False)
        signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        until = time.monotonic() + self._options.patience
        for worker in range(self._options.workers):
            self._fork(worker)
        waited = [wakeup_reader] if control is None else [wakeup_reader, control.listener.fileno()]
        while self._children:
            readable, _, _ = select.select(waited, [], [], _SECONDS)
            with suppress(BlockingIOError):
                os.read(wakeup_reader, 4096)
            if control is not None and control.listener.fileno() in readable:
                control.answer()
            self._reap()
            if not self._commanded and time.monotonic() > until:
                logger.warning("no activation command arrived in time; shutting down")
                self._stop()
            if time.monotonic() > self._deadline:
                self._signal(signal.SIGKILL)
        return self._code

    def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pass a command on to all servers and put their answers together."""
        do = command.get("do")
        if do in ("accept", "release", "retire"):
            self._accepting = do == "accept"
        self._commanded = self._commanded or do in ("accept", "adopt")
        self._retired = self._retired or do == "retire"
        commands = self._share_out(command) if do == "take" else [command] * len(self._children)
        channels = [channel for _, channel in self._children.values()]
        answers = [ask_worker(channel, one) for channel, one in zip(channels, commands, strict=True)]
        if self._retired:
            self._close_listeners()
        if errors := [answer for answer in answers if "error" in answer]:
            return errors[0]
        return {
            "ready": len(answers) == self._options.workers and all(answer["ready"] for answer in answers),
            "accepting": self._accepting,
            "answered": self._metrics.answered,
            "in_flight": self._metrics.in_flight,
            "finishing": sum(answer.get("finishing", 0) for answer in answers),
        }

    def _share_out(self, command: dict[str, Any]) -> list[dict[str, Any]]:
        """Return for each server the command to take its part of the connections."""
        clients, count = taken(command), len(self._children)
        parts = [clients[number::count] for number in range(count)]
        return [
            {"do": "take", "sockets": [c for c, _ in part], "early": [early.decode("latin-1") for _, early in part]}
            for part in parts
        ]

    def _close_listeners(self) -> None:
        for listener in self._listeners:  # the children close theirs: no client shall wait for an answer
            listener.close()

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._close_listeners()
        self._deadline = time.monotonic() + self._options.drain_seconds + 5
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _fork(self, worker: int) -> None:
        parent_end, child_end = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            child_end.close()
            self._children[pid] = (worker, parent_end)
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for channel in (parent_end, *(channel for _, channel in self._children.values())):
                channel.close()
            self._metrics.use(worker)
            code = self._serve(child_end)
        except Exception:
            logger.exception("worker %d failed", worker)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for pid, (worker, channel) in list(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._children[pid]
            channel.close()
            self._metrics.forget(worker)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping or self._retired:
                continue
            if code == NOT_LOADED:
                self._code = 1
                self._stop()
            else:
                logger.error("worker %d ended with code %d: starting another one", worker, code)
                self._fork(worker)
                self.command({"do": "accept" if self._accepting else "adopt" if self._commanded else "status"})

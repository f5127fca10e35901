"""Starts a process: forked from a warm worker, from a worker of its own, or as a plain child.

Where the platform can fork, a fresh process is a worker that has imported nothing and forks once: one way to start, to
watch and to end a job. Elsewhere (Windows, macOS) the fallback is the launcher as a plain child process.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.processes.forked import LOCK_VARIABLE
from kaptain_magics.processes.job_process import PlainProcess, Process
from kaptain_magics.processes.protocol import Cancelled, StartCancelledError, request_job
from kaptain_magics.processes.warm_worker import CAN_FORK, WarmWorker, spawn_zygote
from kaptain_magics.runtime.threads import available_cores

_ATTEMPTS = 2  # to start a job from a warm worker, which may just be ending


def threads_for(cores: float | None, sharing: int = 1) -> int:
    """Return how many threads numerical libraries may use.

    Args:
        cores: The cores of the job; ``None`` for all that there are.
        sharing: Jobs that share those at the same time.
    """
    available = available_cores()
    return max(1, min(available, available // sharing if cores is None else int(-(-cores // 1))))


def start_process(
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
        request: What ``zygote`` documents: program, env, cwd, exit_path, detached, threads.
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
            pid = request_job(connection, request, descriptors, cancelled)
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
        worker = spawn_zygote({"fd": theirs.fileno()}, request["env"], python, (theirs.fileno(),), cancelled)
    except TargetError:
        ours.close()
        raise
    finally:
        theirs.close()
    pid = None
    with contextlib.suppress(OSError, ValueError):
        pid = request_job(ours, request, descriptors, cancelled, worker)
    if pid is None:
        raise TargetError("cannot start a process for the job", "run %kaptain doctor to find the cause")
    return Process(ours, pid)


def _start_plain(request: Mapping[str, Any], output: int, python: str, lock: int | None) -> Process:
    folder = Path(request["cwd"])
    program = dict(request["program"])
    if "module" in program:
        command = [python, "-m", program["module"], *program["argv"]]
    else:
        path = folder.parent / "program.json"
        path.write_text(json.dumps(program), encoding="utf-8")
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
        raise TargetError(
            f"cannot start a process for the job: {error}", f"check that {python} can be executed"
        ) from error
    return PlainProcess(child, request.get("exit_path", ""))

"""A target as another distribution would bring it: one class in one file, and one entry point.

A job is a process of this machine that outlives the one that starts it. All that is known of it are files in its
folder, so that any process can follow it: ``output`` grows, ``asked`` says why it was ended, ``exit`` has its exit
code.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from kaptain_magics.core.events import Event, StateChanged
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import TargetError
from kaptain_magics.files import private_folder
from kaptain_magics.runtime.threads import thread_limits
from kaptain_magics.targets.base import Check, JobRef, TargetConfig, without_values
from kaptain_magics.targets.features import Feature
from kaptain_magics.targets.job_variables import job_variables
from kaptain_magics.targets.output import OutputReader
from kaptain_magics.targets.reading import explain

# Leaves a job behind that writes its exit code down; "$0" is its folder, "$@" its command.
BACKGROUND = '((exec "$@") >"$0/output" 2>&1; echo $? >"$0/part"; mv "$0/part" "$0/exit") >/dev/null 2>&1 &'


class ToyJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to follow the job."""

    folder: str
    group: int
    started: float
    timeout: float | None
    metrics: tuple[str, ...]
    settings: dict[str, float]
    upload_uri: str


class ToyTarget:
    """Runs jobs with the kernel's Python."""

    name = "toy"
    features: frozenset[Feature] = frozenset()

    def __init__(self, config: TargetConfig) -> None:
        self._config = config

    def check(self) -> list[Check]:
        """A toy always works."""
        return [Check("toy", True, sys.executable)]

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return what would run; the values of variables are masked."""
        job = spec.job if isinstance(spec, StudySpec) else spec
        return "\n".join([*(f"{name}={mask}" for name, mask in without_values(job).env.items()), f"python {spec.name}"])

    def submit(self, job: JobSpec) -> JobRef:
        """Start the script."""
        if job.requirements:
            raise TargetError("the toy target installs no requirements", "install them where the kernel runs")
        folder = Path(job.folder)
        work = folder / "work"
        private_folder(work)
        private_folder(work / job.place)
        (work / job.script_path).write_text(job.script.source, "utf-8")
        for path, source in job.placed.items():
            private_folder((work / path).parent)
            (shutil.copytree if Path(source).is_dir() else shutil.copy2)(source, work / path)
        run = folder.parent.parent if job.trial is not None else folder
        program = {
            **job.layout,
            "script": str(work / job.script_path),
            "argv": job.argv,
            "assignments": job.assignments,
            "model": job.capture.model,
            "metrics": job.capture.metrics,
            "sent": str(run / "sent.pkl") if job.capture.send else "",
            "fetch": job.capture.fetch,
            "fetched": str(folder / "fetched.pkl"),
        }
        (folder / "program.json").write_text(json.dumps(program), "utf-8")
        (folder / "output").touch()
        env = {**thread_limits(job.resources.cores), **os.environ, **self._config.storage_env, **job_variables(job)}
        env |= {"KAPTAIN_CHANNEL": "stdout", "PYTHONUNBUFFERED": "1", **self._config.variables(job)}
        command = [sys.executable, "-m", "kaptain_magics.runtime.launch", str(folder / "program.json")]
        shell = ["sh", "-c", BACKGROUND, folder, *command]
        with subprocess.Popen(shell, cwd=work, env=env, start_new_session=True) as started:
            pass
        record = ToyJob(
            folder=job.folder,
            group=started.pid,
            started=time.time(),
            timeout=job.timeout,
            metrics=job.metric_names,
            settings=job.settings,
            upload_uri=job.upload_uri,
        )
        return JobRef.of(self.name, job.name, record)

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield what the job prints and means by it, then how it ended."""
        record = job.read(ToyJob)
        reader = OutputReader(record.metrics, after, upload_uri=record.upload_uri, settings=record.settings)
        yield StateChanged(state=RunState.RUNNING)
        with open(Path(record.folder) / "output", "rb") as output:
            ended = False
            while not ended:
                ended = _exit_code(record) is not None  # what is read after that is the rest
                while piece := output.read(1 << 20):
                    yield from reader.feed(piece)
                if record.timeout is not None and time.time() > record.started + record.timeout:
                    _end(record, "timeout")
                time.sleep(0.02)
        yield from reader.finish()
        yield _last_state(record, reader.tail)

    def stop(self, job: JobRef) -> None:
        """End the script and all that it started."""
        _end(job.read(ToyJob), "stop")


def _exit_code(record: ToyJob) -> int | None:
    """Return the job's exit code, negative for a signal; ``None`` while it runs."""
    path = Path(record.folder) / "exit"
    if not path.exists():
        try:
            os.killpg(record.group, 0)
        except ProcessLookupError:  # killed from outside, with the shell that writes its exit code
            return int(path.read_text()) if path.exists() else -signal.SIGKILL
        return None
    code = int(path.read_text())
    return 128 - code if code > 128 else code


def _end(record: ToyJob, reason: str) -> None:
    if _exit_code(record) is None:
        (Path(record.folder) / "asked").write_text(reason)
        with suppress(ProcessLookupError):
            os.killpg(record.group, signal.SIGKILL)


def _last_state(record: ToyJob, tail: str) -> StateChanged:
    code = _exit_code(record)
    asked = Path(record.folder) / "asked"
    why = asked.read_text() if asked.exists() else ""
    if code == 0:
        return StateChanged(state=RunState.SUCCEEDED, exit_code=0)
    if why == "stop":
        return StateChanged(state=RunState.STOPPED, reason="stopped", exit_code=code)
    reason, hint = explain(code or 1, tail)
    if why == "timeout":
        reason, hint = f"timed out after {record.timeout:g} s", "give it more time with --timeout"
    return StateChanged(state=RunState.FAILED, reason=reason, hint=hint, exit_code=code)

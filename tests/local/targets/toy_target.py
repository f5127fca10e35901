"""A target as another distribution would bring it: one class in one file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kaptain_magics.core.events import Event, LogWritten, StateChanged
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.base import Check, JobRef, TargetConfig


class ToyTarget:
    """Runs jobs one after another with the kernel's Python."""

    name = "toy"

    def __init__(self, config: TargetConfig) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def check(self) -> list[Check]:
        """A toy always works."""
        return [Check("toy", True, sys.executable)]

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return what would run."""
        return f"python {spec.name}"

    def submit(self, job: JobSpec) -> JobRef:
        """Start the script."""
        script = Path(job.folder) / job.script.name
        script.write_text(job.script.source, "utf-8")
        self._processes[job.name] = subprocess.Popen(
            [sys.executable, "-u", str(script), *job.argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **job.env},
        )
        return JobRef(target=self.name, name=job.name)

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield the log, then how it ended."""
        process = self._processes[job.name]
        yield StateChanged(state=RunState.RUNNING)
        output, _ = process.communicate()
        yield LogWritten(text=output)
        if process.returncode == 0:
            yield StateChanged(state=RunState.SUCCEEDED, exit_code=0)
        else:
            yield StateChanged(state=RunState.FAILED, reason=f"exit code {process.returncode}")

    def stop(self, job: JobRef) -> None:
        """End the script."""
        self._processes[job.name].terminate()

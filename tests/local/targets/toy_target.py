"""A target as another distribution would bring it: one class in one file."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kaptain_magics.core.events import Event, StateChanged
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import RunState
from kaptain_magics.runtime.launch import substitute
from kaptain_magics.targets.base import Check, JobRef, TargetConfig
from kaptain_magics.targets.output import OutputReader


class ToyTarget:
    """Runs jobs one after another with the kernel's Python."""

    name = "toy"

    def __init__(self, config: TargetConfig) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def check(self) -> list[Check]:
        """A toy always works."""
        return [Check("toy", True, sys.executable)]

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return what would run."""
        return f"python {spec.name}"

    def submit(self, job: JobSpec) -> JobRef:
        """Start the script."""
        script = Path(job.folder) / job.script.name
        script.write_text(ast.unparse(substitute(ast.parse(job.script.source), job.assignments)), "utf-8")
        self._processes[job.name] = subprocess.Popen(
            [sys.executable, "-u", str(script), *job.argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **job.env},
        )
        return JobRef(target=self.name, name=job.name, record={"metrics": list(job.metric_names)})

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield the log and its metrics, then how it ended."""
        process = self._processes[job.name]
        yield StateChanged(state=RunState.RUNNING)
        output, _ = process.communicate()
        reader = OutputReader(tuple(job.record["metrics"]), after)
        yield from reader.feed(output)
        yield from reader.finish()
        if process.returncode == 0:
            yield StateChanged(state=RunState.SUCCEEDED, exit_code=0)
        else:
            yield StateChanged(state=RunState.FAILED, reason=f"exit code {process.returncode}")

    def stop(self, job: JobRef) -> None:
        """End the script."""
        self._processes[job.name].terminate()

"""A process of its own that readies workers for a notebook's first run, with what it and the last runs import.

``magics/prewarm.py`` starts it in a quiet moment and hands it what it asks for on standard input. It gives way to all
other work, ends with the kernel, and starts nothing where memory is short. The workers end with the kernel too, unless
they have run something.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kaptain_magics.config import Settings
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import KaptainError
from kaptain_magics.processes.background import NICENESS, give_way
from kaptain_magics.processes.idle_workers import crowded
from kaptain_magics.state import RunStore
from kaptain_magics.supervisor.start_supervisor import worker_of_supervisors
from kaptain_magics.targets.base import ReadyAhead, open_target
from kaptain_magics.targets.environment import target_config

_LONGEST = 120.0  # seconds for all of it
_RUNS = 20  # of the newest runs, those of this folder are looked at
_SCRIPTS = 2  # of the last ones that have a worker of their own
_LARGEST = 20 << 20  # bytes of a notebook that is read


def main() -> None:
    """Start the workers that the kernel asked for on standard input."""
    request = json.loads(sys.stdin.buffer.read())
    os.environ.pop("KAPTAIN_JOB", None)  # as it is in a supervisor
    owner, until = int(request["owner"]), time.monotonic() + _LONGEST

    def cancelled() -> bool:
        return time.monotonic() > until or not Path(f"/proc/{owner}").exists()

    with contextlib.suppress(KaptainError, OSError):
        settings, jobs, modules = give_way(lambda: _plan(request), NICENESS)
        if settings.warm and settings.prewarm:
            _make_ready(settings, modules, jobs, owner, cancelled)


def _make_ready(
    settings: Settings, modules: list[str], jobs: list[JobSpec], owner: int, cancelled: Callable[[], bool]
) -> None:
    if not crowded():
        worker_of_supervisors(os.environ, bool(settings.tracking_uri), owner).make_ready(cancelled)
        target = open_target(settings.target, target_config(settings))
        if isinstance(target, ReadyAhead):
            target.make_ready(modules, jobs, owner, lambda: cancelled() or crowded())


def _plan(request: Mapping[str, Any]) -> tuple[Settings, list[JobSpec], list[str]]:
    """Return the settings, the jobs of the last runs in this folder, and what they and the notebook import."""
    settings = Settings.load(request["settings"])
    jobs = list(_last_jobs(settings))
    modules = {*request["modules"], *_imports_of_notebook(Path(request["notebook"]))}
    for job in jobs:
        modules.update(_imports(job.script.source))
    return settings, jobs, sorted(modules)


def _last_jobs(settings: Settings) -> Iterator[JobSpec]:
    """Yield what ran last from this folder on this machine, each script once."""
    seen: set[str] = set()
    for folder in RunStore(Path(settings.home)).folders()[:_RUNS]:
        with contextlib.suppress(KaptainError, OSError, ValueError):
            record = folder.record
            job = record.job or (record.study.job if record.study is not None else None)
            if job is None or record.target != settings.target or job.script.source in seen:
                continue
            if str(Path.cwd()) in job.script.folders and len(seen) < _SCRIPTS:
                seen.add(job.script.source)
                yield job


def _imports_of_notebook(path: Path) -> set[str]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        if path.is_file() and path.stat().st_size <= _LARGEST:
            cells = json.loads(path.read_bytes())["cells"]
            sources = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
            return {module for source in sources for module in _imports(source)}
    return set()


def _imports(source: str) -> set[str]:
    """Return what a cell imports, and what may be a module of a package; its magics are left out."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")]
    modules: set[str] = set()
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module)
    return modules

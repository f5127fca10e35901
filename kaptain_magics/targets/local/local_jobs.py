"""The local target: jobs as processes of this machine, forked from a warm worker where that is safe."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.secrets import without_passwords
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import ConfigError, TargetError
from kaptain_magics.files import disk_error, private_folder
from kaptain_magics.processes.environment_mark import run_mark
from kaptain_magics.processes.idle_workers import idle_workers
from kaptain_magics.processes.job_process import Process
from kaptain_magics.processes.orphans import end_marked
from kaptain_magics.processes.seeds import seed_statements
from kaptain_magics.processes.start_process import start_process, threads_for
from kaptain_magics.processes.warm_worker import CAN_FORK, WarmWorker
from kaptain_magics.runtime.text_values import is_true
from kaptain_magics.runtime.threads import THREAD_VARIABLES
from kaptain_magics.targets.base import Check, JobRef, TargetConfig, without_values
from kaptain_magics.targets.job_variables import job_variables
from kaptain_magics.targets.local import gpus, requirements_env
from kaptain_magics.targets.local.beside_notebook import beside_notebook, local_modules, snapshot_inputs
from kaptain_magics.targets.local.imports import import_statements, is_standard
from kaptain_magics.targets.local.job_files import JobFiles, LocalJobRecord, follow_files
from kaptain_magics.targets.local.memory_limit import MemoryWatch
from kaptain_magics.targets.local.started_job import StartedJob
from kaptain_magics.targets.reading import explain

_TICK = 0.1  # seconds between looks at a running job's files
_GRACE_PERIOD = 5.0  # seconds between asking a job to end and ending it
_SERVER = ("import kaptain_magics.serving.__main__",)  # so that a model's server can be forked too


class LocalJobs:
    """Runs jobs on this machine.

    Args:
        config: State folder, cache and settings; ``warm`` ``false`` starts every job as a fresh process.
    """

    name = "local"

    def __init__(self, config: TargetConfig) -> None:
        self._config = config
        self._warm = is_true(config.settings.get("warm", "true"))
        self._jobs: dict[str, StartedJob] = {}
        self._workers: dict[tuple[str, str], WarmWorker] = {}
        self._gpus = gpus.Share()
        self._sharing = threading.Lock()

    def check(self) -> list[Check]:
        """Look at the state folder, the disk and the ways to start a process."""
        home = self._config.home
        free = shutil.disk_usage(home if home.exists() else Path.home()).free
        warm = CAN_FORK and self._warm
        devices = gpus.find_gpus()
        writable = os.access(home if home.exists() else home.parent, os.W_OK)
        return [
            Check("state folder", writable, str(home), "" if writable else "name another one with KAPTAIN_HOME"),
            Check("disk", free > 1 << 30, f"{free / 1e9:.1f} GB free", "" if free > 1 << 30 else "free some space"),
            Check("python", True, f"{sys.version.split()[0]} at {sys.executable}"),
            Check("gpus", True, f"{len(devices.ids)}: {devices.source}"),
            Check("warm start", True, "jobs fork from a warm worker" if warm else "jobs start as fresh processes"),
        ]

    def reads_here(self, path: str) -> bool:
        """Whether a job can read what is at an absolute path of this machine: as far as this user can."""
        return os.access(path, os.R_OK)

    def check_gpus(self, count: int) -> None:
        """Refuse more GPUs than this machine has.

        Raises:
            TargetError: It has fewer.
        """
        gpus.check_count(count, gpus.find_gpus())

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return the command that would run, as a shell would write it."""
        import shlex

        if isinstance(spec, EndpointSpec):
            return f"# a server of {spec.artifact_uri} on {spec.host}\n" + shlex.join(
                ["python", "-m", "kaptain_magics.serving", "--model-name", spec.name]
            )
        job = spec.job if isinstance(spec, StudySpec) else spec
        lines = [f"# {job.name}: a process of this machine, working folder {job.folder or '<run>'}/work"]
        lines += [f"# assignment replaced: {name} = {value!r}" for name, value in job.assignments.items()]
        if isinstance(spec, StudySpec):
            lines += [f"# searched: {name} = {domain}" for name, domain in spec.domains.items()]
        lines += [f"# beside the notebook: {item.path} ({item.role})" for item in job.inputs]
        lines.append(f"TRAINED_MODEL_UPLOAD_PATH={job.upload_uri}")
        lines += [f"{name}={value}" for name, value in without_values(job).env.items()]
        return "\n".join([*lines, shlex.join(["python", "-u", job.script.name, *job.argv])])

    def submit(self, job: JobSpec) -> JobRef:
        """Start the job's process, or leave that to ``follow`` where an environment has to be made first."""
        folder = Path(job.folder)
        if job.resources.gpu_limit:
            gpus.check_count(job.resources.gpu_limit, gpus.find_gpus({**os.environ, **job.env}))
        self._jobs[job.name] = started = StartedJob(job)
        try:
            self._prepare(job, folder)
        except OSError as error:
            raise disk_error(error, folder) from error
        if not requirements_env.needed(job.requirements):
            self._start_job(started, sys.executable)
        return JobRef.of(self.name, job.name, LocalJobRecord(folder=job.folder))

    def _prepare(self, job: JobSpec, folder: Path) -> None:
        work = folder / "work"
        private_folder(work)
        script = work / job.script_path
        private_folder(script.parent)
        script.write_text(job.script.source, encoding="utf-8")
        if job.trial is None:
            for source in map(Path, job.extra_files):
                _copy(source, script.parent / source.name)
            return
        run = folder.parent.parent
        with self._sharing:  # trials are submitted by several threads
            for source in map(Path, job.extra_files):
                shared = run / "files" / source.name
                if not shared.exists():
                    _copy(source, shared)
                (script.parent / source.name).symlink_to(shared)
            snapshot_inputs(job, run)

    def _start_job(self, started: StartedJob, python: str) -> None:
        job = started.spec
        folder = Path(job.folder)
        threads = threads_for(job.resources.cores, job.parallel)
        request: dict[str, Any] = {
            "program": {
                **job.layout,
                **beside_notebook(job, folder),
                "script": str(folder / "work" / job.script_path),
                "argv": list(job.argv),
                "assignments": job.assignments,
                "model": job.capture.model,
                "metrics": job.capture.metrics,
                "find_model": job.capture.find_model,
                "find_metrics": job.capture.find_metrics,
                "fetch": list(job.capture.fetch),
                "fetched": str(folder / "fetched.pkl"),
                "sent": _sent(job, folder),
            },
            "env": self._environment(started, threads),
            "cwd": str(folder / "work"),
            "exit_path": str(folder / "exit.json"),
            "threads": threads,
        }
        worker = self._worker(job, python)

        def start() -> Process:
            output = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                return start_process(request, output, python=python, warm=worker, cancelled=started.cancelled)
            finally:
                os.close(output)
                started.notes += [Noted(text=text) for text in (worker.take_notes() if worker is not None else ())]

        started.begin(start)

    def warm_up(self, job: JobSpec) -> None:
        """Let the worker of such jobs import what they need while the caller does something else."""
        if not requirements_env.needed(job.requirements):
            worker = self._worker(job, sys.executable)
            if worker is not None:
                worker.start()

    def make_ready(
        self, modules: Sequence[str], jobs: Sequence[JobSpec], owner: int, cancelled: Callable[[], bool]
    ) -> None:
        """Start workers for jobs like these, and seeds of further ones; all of them end with the owner if not used."""
        seeds = {tuple(seed_statements(modules, named)): None for named in (False, True)}
        for statements in filter(None, seeds):
            if not cancelled():
                seed = WarmWorker(statements, os.environ, later=_SERVER, seed=True, owner=owner)
                seed.make_ready(cancelled)
        for job in jobs:
            with contextlib.suppress(ConfigError):  # a variable that was passed on is not set any more
                worker = None if requirements_env.needed(job.requirements) else self._worker(job, sys.executable, owner)
                if worker is not None and not cancelled():
                    worker.make_ready(cancelled)
        if not any(seeds) and not jobs and self._warm:
            WarmWorker([], os.environ, later=_SERVER, owner=owner).make_ready(cancelled)

    def _worker(self, job: JobSpec, python: str, owner: int = 0) -> WarmWorker | None:
        if not self._warm or job.resources.gpu_limit:
            return None
        key = (python, job.script.source)  # whose own modules are the same for all its jobs
        if key not in self._workers:
            env = {**os.environ, **self._config.variables(job)}
            own = local_modules(job)
            statements = [
                statement
                for statement in import_statements(job.script.source)
                if not is_standard(statement) and statement.split()[1].partition(".")[0] not in own
            ]
            self._workers[key] = WarmWorker(statements, env, python, later=_SERVER, owner=owner)
        return self._workers[key]

    def _environment(self, started: StartedJob, threads: int) -> dict[str, str]:
        job = started.spec
        env = {**os.environ, **self._config.storage_env}
        if env.get("MPLBACKEND", "").startswith("module://"):  # the notebook's own; a job has no notebook
            env["MPLBACKEND"] = "agg"
        env |= {
            **job_variables(job),
            "KAPTAIN_CHANNEL": f"file:{Path(job.folder) / 'channel.jsonl'}",
            "KAPTAIN_JOB": started.mark,
        }
        if job.resources.cores is not None:
            env = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **env}
        env |= self._config.variables(job)
        if job.resources.gpu_limit:
            devices, note = self._gpus.take(job.name, job.resources.gpu_limit, env)
            env |= devices
            started.notes += [Noted(text=note, warning=True)] if note else []
        return env

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield the job's events; works in the process that submitted it and, by the job's files, in any other.

        A job is installing (where it needs an environment), starting (its worker imports), running, and ended. Stop and
        the run's time limit end each of them; a trial's time limit, and the memory's, count from running.
        """
        started = self._jobs.get(job.name)
        if started is None:
            yield from follow_files(Path(LocalJobRecord.of_ref(job).folder), after)
            return
        if started.starting is None and not started.stopping:
            yield from self._launch_in_environment(started)
        yield from started.await_start()
        if started.process is None:
            last = started.never_started()
        else:
            last = yield from self._follow_process(started, started.process, after)
        self._jobs.pop(job.name, None)
        self._gpus.give_back(job.name)
        yield last

    def _follow_process(
        self, started: StartedJob, process: Process, after: int
    ) -> Generator[Event, None, StateChanged]:
        """Yield the events of a job that runs; returns how it has ended."""
        job = started.spec
        reader = JobFiles(Path(job.folder), job.metric_names, after, job.settings)
        started.count_time()
        yield StateChanged(state=RunState.RUNNING)
        yield from started.notes
        if job.workers > 1:
            yield Noted(text=f"The local target runs one worker instead of {job.workers}.")
        memory = MemoryWatch(process.pid, job.resources.memory_bytes)
        timed_out = False
        while process.wait(_TICK) is None:
            yield from reader.news()
            timed_out = timed_out or started.overdue
            if timed_out or memory.exceeded():
                process.kill(signal.SIGKILL)
        yield from reader.news()
        yield from reader.rest()
        if job.trial is not None:
            shutil.rmtree(Path(job.folder) / "work", ignore_errors=True)
        assert process.exit is not None
        code = process.exit.code
        if code is None:  # there is no worker any more to end what the job has left
            end_marked(started.mark)
        if started.stopping:
            return StateChanged(state=RunState.STOPPED, reason=started.reason or "stopped", exit_code=code)
        if code == 0:
            return StateChanged(state=RunState.SUCCEEDED, exit_code=0)
        if timed_out:
            return started.timed_out(code)
        if memory.reason:
            return StateChanged(state=RunState.FAILED, reason=memory.reason, hint=memory.hint, exit_code=code)
        if code is None:
            reason = "the worker that ran the job was killed from outside, often because memory ran out"
            hint = "run it again" if job.trial is None else "where memory is short, lower --parallel"
            return StateChanged(state=RunState.FAILED, reason=reason, hint=hint, lost=True)
        reason, hint = explain(code, reader.tail())
        return StateChanged(state=RunState.FAILED, reason=reason, hint=hint, exit_code=code)

    def _launch_in_environment(self, started: StartedJob) -> Iterator[Event]:
        requirements = started.spec.requirements
        yield Noted(text="Installing requirements: " + without_passwords(", ".join(requirements)))
        try:
            env = {**os.environ, **self._config.variables(started.spec)}
            python = requirements_env.prepare(requirements, self._config.cache, lambda: started.stopping, env)
            if not started.stopping:
                self._start_job(started, python)
        except TargetError as error:
            started.reason, started.hint = error.message, error.hint

    def stop(self, job: JobRef) -> None:
        """Ask the job's processes to end, then end them."""
        started = self._jobs.get(job.name)
        if started is None:
            return
        started.stopping = True
        process = started.process
        if process is None:
            return
        process.kill(signal.SIGTERM)
        until = time.monotonic() + _GRACE_PERIOD
        while process.exit is None and time.monotonic() < until and _alive(process.pid):
            time.sleep(0.02)
        process.kill(signal.SIGKILL)

    def clean(self, force: bool = False) -> list[str]:
        """Find warm workers of this user that have nothing to do and, with ``force``, let them end."""
        return [f"idle warm worker (process {pid})" for pid in idle_workers(leave=force)]

    def end_run(self, run_id: str) -> None:
        """End the processes of a run whose supervisor was killed."""
        end_marked(run_mark(run_id))


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def _copy(source: Path, target: Path) -> None:
    private_folder(target.parent)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _sent(job: JobSpec, folder: Path) -> str:
    if not job.capture.send:
        return ""
    run = folder.parent.parent if job.trial is not None else folder
    return str(run / "sent.pkl")

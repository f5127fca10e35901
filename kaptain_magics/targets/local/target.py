"""The default target: processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kaptain_magics.core.specs import EndpointSpec, JobSpec
from kaptain_magics.errors import ConfigError
from kaptain_magics.processes.job_process import Process
from kaptain_magics.processes.start_process import start_process, threads_for
from kaptain_magics.processes.warm_worker import CAN_FORK
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.features import Feature
from kaptain_magics.targets.local import requirements_env
from kaptain_magics.targets.local.instances import SERVER, Started, launch_process
from kaptain_magics.targets.local.local_jobs import LocalJobs
from kaptain_magics.targets.local.local_serving import LocalServing


class LocalTarget(LocalJobs, LocalServing):
    """Runs and serves on this machine.

    Args:
        config: State folder, cache and settings; ``warm`` ``false`` starts everything as a fresh process.
    """

    name = "local"
    features = frozenset({Feature.ADDRESS})

    def __init__(self, config: TargetConfig) -> None:
        LocalJobs.__init__(self, config)
        LocalServing.__init__(self, config, self._launch_server, self._python_for)
        self._like: JobSpec | None = None

    def clean(self, force: bool = False) -> list[str]:
        """Find what killed deployments left and idle workers and, with ``force``, end and remove them."""
        return [*LocalServing.clean(self, force), *LocalJobs.clean(self, force)]

    def serve_like(self, job: JobSpec) -> None:
        """Fork the next server from the worker of such a job, which has imported the model's libraries."""
        self._like = job

    def _launch_server(
        self, module: str, argv: Sequence[str], env: Mapping[str, str], log: Path, python: str
    ) -> Started:
        worker = None
        if self._like is not None and module == SERVER and python == sys.executable:
            with contextlib.suppress(ConfigError):  # a variable that was passed on to the training is not set any more
                worker = self._worker(self._like, python)
        if not CAN_FORK:
            return launch_process(module, argv, env, log, python)
        request = {
            "program": {"module": f"{module}.__main__", "argv": list(argv)},
            "env": dict(env),
            "cwd": str(log.parent),
            "exit_path": str(log.with_name("exit.json")),
            "detached": True,
            "threads": threads_for(None),
        }
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return _Forked(start_process(request, output, python=python, warm=worker, cancelled=self._cancelled.is_set))
        finally:
            os.close(output)

    def _python_for(self, spec: EndpointSpec) -> str:
        if not requirements_env.needed(spec.requirements):
            return sys.executable
        env = {**os.environ, **self._config.variables(spec)}
        return requirements_env.prepare(spec.requirements, self._config.cache, self._cancelled.is_set, env)


class _Forked:
    """A server that was forked from a worker."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def poll(self) -> int | None:
        ended = self._process.wait(0)
        if ended is None:
            return None
        return -signal.SIGKILL if ended.code is None else ended.code  # its worker was killed, and it with it

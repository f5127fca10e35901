"""Makes a fork of a warm worker look like a process of its own: environment, streams, randomness, threads."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from kaptain_magics.processes.environment_mark import write_mark
from kaptain_magics.runtime.threads import THREAD_VARIABLES

LOCK_VARIABLE = "KAPTAIN_RUN_LOCK"  # the number of the descriptor that holds the lock of a run
_pools: list[Any] = []  # threadpoolctl's controller of the libraries that are loaded


def find_pools() -> None:
    """Find the loaded libraries that have threads, in the worker: that takes longer than the fork."""
    if "threadpoolctl" in sys.modules:
        with contextlib.suppress(Exception):
            _pools[:] = [sys.modules["threadpoolctl"].ThreadpoolController()]


def run(request: Mapping[str, Any]) -> int:
    """Run what the request of a job asks for in this fork of the worker; returns the exit code."""
    write_mark(request["env"].get("KAPTAIN_JOB", ""))
    for name in os.environ.keys() - request["env"].keys():
        del os.environ[name]
    os.environ |= {name: text for name, text in request["env"].items() if os.environ.get(name) != text}
    os.chdir(request["cwd"])
    time.tzset()
    for stream, descriptor in (("stdout", 1), ("stderr", 2)):
        file = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, stream, file)
        setattr(sys, f"__{stream}__", file)
    _fresh_randomness()
    if request.get("threads"):
        _raise_threads(int(request["threads"]), request["env"])
    program = request["program"]
    if "module" in program:
        import importlib

        sys.argv = [program["module"], *program["argv"]]
        return int(importlib.import_module(program["module"]).main(program["argv"]) or 0)
    from kaptain_magics.runtime import launch

    return launch.run(program)


def _fresh_randomness() -> None:
    """Forks share the state that libraries drew at import; a fresh process would not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _raise_threads(threads: int, env: Mapping[str, str]) -> None:
    """Give the job the threads that a process of its own would have; the worker itself was held to one.

    Args:
        threads: How many, where the job's environment does not say.
        env: That environment.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))
    general = _whole(env.get("OMP_NUM_THREADS", ""), threads)
    linear = _whole(env.get("OPENBLAS_NUM_THREADS") or env.get("MKL_NUM_THREADS", ""), general)
    if _pools and (general > 1 or linear > 1):
        _pools[0].limit(limits={"openmp": general, "blas": linear})
    torch = sys.modules.get("torch")
    if general > 1 and torch is not None:
        torch.set_num_threads(general)


def _whole(text: str, default: int) -> int:
    first = text.partition(",")[0].strip()  # a list is for nested levels
    return int(first) if first.isdigit() and int(first) else default

"""How long work says what it does: by a callback, which is also where it can be cancelled."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TypeAlias

Progress: TypeAlias = Callable[[str], None]
"""Gets a line for the reader, or an empty one several times a second while a step is silent.

It may raise ``CancelledError``: the work then removes what is half made and lets the error through.
"""
_TICK = 0.2  # seconds between two calls while a process is silent: a person who cancels does not wait


class CancelledError(Exception):
    """The result of some work is not wanted any more; raised by a ``Progress``."""


def silent(_line: str) -> None:
    """A ``Progress`` that shows nothing."""


def run_process(
    command: Sequence[str],
    progress: Progress,
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a program to its end, killed when ``progress`` raises; returns its exit code and all of its output."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=stdin, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            while True:
                try:
                    code = process.wait(_TICK)
                    break
                except subprocess.TimeoutExpired:
                    progress("")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        return code, log.read().decode("utf-8", "replace")

"""The end of an interpreter, done by hand in a fork.

A fork of a worker must leave by ``os._exit``: a normal end would unwind the worker's own loop in it and run what the
worker has registered. But a script relies on what Python does at its end, in this order: wait for threads that are no
daemons (``concurrent.futures`` ends its idle ones there), run the functions of ``atexit``, flush the streams. The first
two have no public function. ``threading._shutdown`` is what the interpreter itself calls, and what the forks of the
standard library's ``multiprocessing`` call; ``atexit._run_exitfuncs`` is the interpreter's second step.

Where a Python lacks one of them, the fallback is to go on without that step: the streams are flushed in any case.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading

UNWRITTEN = 120  # Python's own exit code when it cannot flush its streams


def finish() -> int:
    """Do what the interpreter does at its end; returns an exit code that is not 0 where output was lost."""
    code = 0
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = UNWRITTEN
    return code

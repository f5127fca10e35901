"""Has workers readied for the first run, when the notebook is quiet; all that is more than a look happens elsewhere.

States: a cell runs; it has ended and `_QUIET` seconds count; a process of its own (`model/prewarm.py`) starts workers
with what the notebook imports. It starts again when the notebook has imported something else since, or after `_AGAIN`
seconds of a notebook that is in use, before the workers end.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from kaptain_magics.runtime.text_values import truth_of

_QUIET = 0.5  # seconds after a cell: a notebook that is run as a whole has no such gap
_AGAIN = 100.0  # seconds; an idle worker ends after 180
_COMMAND = (  # the imports of that process give way too
    "from kaptain_magics.processes.background import NICENESS, give_way\n"
    "import importlib\n"
    "give_way(lambda: importlib.import_module('kaptain_magics.model.prewarm'), NICENESS).main()"
)


class Prewarm:
    """Looks after the notebook's idle moments.

    Args:
        shell: The notebook's shell.
        configured: Returns what ``%config`` sets, by name.
    """

    def __init__(self, shell: Any, configured: Any) -> None:
        self._shell, self._configured = shell, configured
        self._timer: threading.Timer | None = None
        self._running = threading.Lock()
        self._state: object = None
        self._started = 0.0

    def cell_begins(self, *_: object) -> None:
        """Wait no longer for a quiet moment."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cell_ended(self, *_: object) -> None:
        """Wait for a quiet moment where there is something to ready."""
        self.cell_begins()
        state = (len(sys.modules), hash(frozenset(os.environ.items())))
        if state == self._state and time.monotonic() - self._started < _AGAIN:
            return
        settings = {name: value for name, value in self._configured().items() if value is not None}
        if _is_off(settings):
            return
        self._timer = threading.Timer(_QUIET, self._start, (state, settings))
        self._timer.daemon = True
        self._timer.start()

    def _start(self, state: object, settings: Mapping[str, Any]) -> None:
        """Start the process, and wait for its end, in the timer's thread."""
        import subprocess

        if not self._running.acquire(blocking=False):  # the last one goes on
            return
        try:
            self._state, self._started = state, time.monotonic()
            request = {"owner": os.getpid(), "modules": _imported(), "notebook": self._notebook(), "settings": settings}
            child = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            child.returncode = 0  # a kernel that ends meanwhile leaves it, without a warning
            assert child.stdin is not None
            with contextlib.suppress(OSError), child.stdin as stdin:
                stdin.write(json.dumps(request).encode())
            with contextlib.suppress(OSError):
                os.waitpid(child.pid, 0)
        except OSError:  # no process can be started now: a run will say so
            return
        finally:
            self._running.release()

    def _notebook(self) -> str:
        """Return the notebook's file, as far as Jupyter or Visual Studio Code say; else an empty text."""
        name = self._shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
        return os.path.abspath(name) if str(name).endswith(".ipynb") else ""


def _imported() -> list[str]:
    """Return the libraries that the kernel has imported, and their parts, as far as a glance shows it."""
    return [name for name in sys.modules.copy() if name.count(".") < 2 and "._" not in f".{name}"]


def _is_off(settings: Mapping[str, Any]) -> bool:
    """Whether a setting of this process says so; a ``kaptain.toml`` is read later."""
    if not hasattr(os, "fork") or sys.platform == "darwin" or "KAPTAIN_JOB" in os.environ:
        return True
    for name in ("warm", "prewarm"):
        value = settings.get(name, os.environ.get(f"KAPTAIN_{name.upper()}", ""))
        if truth_of(str(value)) is False:
            return True
    return False

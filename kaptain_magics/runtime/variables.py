"""Environment variables that come in a file, so that they are not among the settings of a container."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def restart_with(values: Mapping[str, str]) -> None:
    """Begin this program again with these variables, as if it had been started with them; once they are set, go on.

    Some of them count at the start of Python only, such as ``PYTHONPATH``.

    Args:
        values: The variables.
    """
    if any(os.environ.get(name) != value for name, value in values.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **values})

"""Servers and clients of others, each in a virtual environment of its own because their pins exclude each other.

``KAPTAIN_TEST_KSERVE_PYTHON`` and ``KAPTAIN_TEST_MLSERVER_PYTHON`` name their interpreters; by default they are looked
for under ``~/.cache/peer-<name>``. They are made with ``pip install kserve scikit-learn`` and
``pip install mlserver==1.7.1 mlserver-sklearn==1.7.1 'uvloop<0.22' scikit-learn``.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import absent


def find_peer(name: str) -> Path | None:
    """Return the interpreter of a peer's environment, if there is one."""
    path = Path(os.environ.get(f"KAPTAIN_TEST_{name.upper()}_PYTHON", Path.home() / f".cache/peer-{name}/bin/python"))
    return path if path.exists() else None


def require_peer(name: str) -> Path:
    """Return the interpreter of a peer's environment, or skip the test."""
    path = find_peer(name)
    if path is None:
        absent("peers", f"{name} has no environment; see tests/peers.py")
        raise AssertionError
    return path

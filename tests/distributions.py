"""Distributions that a test installs: a module and its entry points on the path of this process and its children."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

import pytest


def install(module: Path, entry_points: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a distribution with one module into the new folder ``site`` and return the distribution's name."""
    name = f"kaptain-{module.stem.replace('_', '-')}"
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    shutil.copy(module, site)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")])))
    importlib.invalidate_caches()
    return name

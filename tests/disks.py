"""Small file systems that can be filled."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import absent


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount an empty file system of a size such as ``4m`` on a new folder for a block."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        absent("mount", "no file system can be mounted here")
    try:
        yield folder
    finally:
        until = time.monotonic() + 30  # what worked there may still be ending
        while subprocess.run(["umount", str(folder)], capture_output=True).returncode:
            assert time.monotonic() < until, f"{folder} is still in use"
            time.sleep(0.1)

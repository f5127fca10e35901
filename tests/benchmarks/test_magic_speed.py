"""What the magics add: to a bare IPython when they are loaded, to ``python script.py`` when a cell is trained."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark
ROUNDS = 7

_LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
started = time.perf_counter()
shell.run_line_magic("load_ext", "kaptain_magics")
print(time.perf_counter() - started)
"""
_TRAIN = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "kaptain_magics")
cell = open("script.py").read()
for _ in range(8):
    started = time.perf_counter()
    result = shell.run_cell("%%kaptain_train dev/speed\\n" + cell)
    print("took", time.perf_counter() - started)
    result.raise_error()
"""
_SCRIPT = "import json\nprint('work done')\n"


def _python(*arguments: str, folder: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout


def test_load_ext(home: Path, tmp_path: Path) -> None:
    ours = [float(_python("-c", _LOAD, folder=tmp_path).split()[-1]) for _ in range(ROUNDS)]
    best, median = min(ours) * 1e3, sorted(ours)[ROUNDS // 2] * 1e3
    print(f"\n%load_ext over a bare IPython: best {best:.1f} ms, median {median:.1f} ms")


def test_train_over_the_bare_script(home: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    bare = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        _python("script.py", folder=tmp_path)
        bare.append(time.perf_counter() - started)
    lines = _python("-c", _TRAIN, folder=tmp_path).splitlines()
    took = [float(line.split()[1]) for line in lines if line.startswith("took")]
    print(f"\n{'%%kaptain_train of a trivial cell':40}{'seconds':>9}{'over bare':>11}")
    rows = [("python script.py", min(bare)), ("first in a kernel", took[0]), ("warm (median)", sorted(took[1:])[3])]
    for name, seconds in rows:
        print(f"{name:40}{seconds:9.3f}{seconds - min(bare):+11.3f}")

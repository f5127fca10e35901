"""The source distribution and the wheel of this checkout, and environments that the wheel alone is installed in."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_SDIST = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
_WHEEL = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"


class Environment:
    """A virtual environment outside the checkout that has the libraries of this one, but nothing of ours.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        venv.create(path, with_pip=False)
        self.python = path / "bin" / "python"
        self.packages = next(path.glob("lib/python*/site-packages"))
        below = [folder for folder in sys.path if folder.endswith("-packages")] or site.getsitepackages()
        # As entries of sys.path: a library's folder alone, without the .pth files in it that name this checkout.
        (self.packages / "libraries.pth").write_text("".join(f"{folder}\n" for folder in below))

    def pip(self, *arguments: str) -> None:
        """Install or remove, without an index."""
        command = [sys.executable, "-m", "pip", "-q", "--no-input", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--python", str(self.python), *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def install(self, *wheels: Path, again: bool = False) -> None:
        """Install wheels, without what they need."""
        force = ["--force-reinstall"] if again else []
        self.pip("install", "--no-index", "--no-deps", *force, *map(str, wheels))

    def run(self, code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python code in this environment."""
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return subprocess.run(
            [str(self.python), "-c", code], cwd=folder or self.path, env=env, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run([sys.executable, "-c", _SDIST, str(folder)], cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(folder)], check=True)
    source = next(path for path in folder.iterdir() if path.is_dir())
    subprocess.run([sys.executable, "-c", _WHEEL, str(folder)], cwd=source, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., Environment]:
    """Make an environment with wheels installed in that order."""

    def make(*wheels: Path) -> Environment:
        made = Environment(tmp_path / f"environment-{len(list(tmp_path.iterdir()))}")
        for wheel in wheels:
            made.install(wheel)
        return made

    return make

"""What is in the source distribution and the wheel, and that the wheel works where the checkout is not importable."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email.parser import HeaderParser
from pathlib import Path

import pytest

from kaptain_magics import __version__
from kaptain_magics.images.build_context import runtime_entries
from tests.local.packaging.conftest import ROOT, Environment


def test_the_source_distribution_has_what_a_packager_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    for name in ("LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "pyproject.toml", "PKG-INFO"):
        assert name in names
    assert "notebooks/quickstart.ipynb" in names
    assert "tests/local/packaging/test_wheel.py" in names


def test_the_wheel_has_both_packages_each_file_once_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = HeaderParser().parsestr(
            archive.read(f"kaptain_magics-{__version__}.dist-info/METADATA").decode("utf-8")
        )
    assert len(names) == len(set(names))
    assert metadata["Version"] == __version__
    package = ROOT / "kaptain_magics"
    sdk = package / "sdk"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {path.relative_to(sdk if path.is_relative_to(sdk) else ROOT).as_posix() for path in files}
    assert {name for name in names if ".dist-info/" not in name} == expected
    for name in ("kaptain/py.typed", "kaptain_magics/py.typed", "kaptain_magics/views/static/card.js"):
        assert name in expected
    assert f"kaptain_magics-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_wheel_works_where_the_checkout_is_not_importable(
    wheel: Path, environment: Callable[..., Environment], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPTAIN_WARM", "false")  # no worker of this environment is left behind
    installed = environment(wheel)
    code = f"""
import kaptain, kaptain_magics
from IPython.core.interactiveshell import InteractiveShell
from kaptain_magics.images.build_context import runtime_entries
for package in (kaptain, kaptain_magics):
    assert package.__file__.startswith({str(installed.packages)!r}), package.__file__
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "kaptain_magics")
shell.run_cell("%%kaptain_train dev/wheel\\nimport kaptain\\nkaptain.log_metrics(accuracy=0.5)").raise_error()
assert "accuracy" in shell.user_ns["_kaptain"].metrics
print("in a job:", *(entry.path for entry in runtime_entries("lib")))
"""
    done = installed.run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    # What is laid into containers and pods is the same from a wheel as from a checkout.
    assert done.stdout.splitlines()[-1].split()[3:] == [entry.path for entry in runtime_entries("lib")]


def test_a_script_of_a_wheel_has_its_types(wheel: Path, environment: Callable[..., Environment]) -> None:
    installed = environment(wheel)
    (installed.path / "script.py").write_text(
        "from kaptain.model.models import Model\nfrom kaptain_magics.model import Workspace\n\n"
        "reveal_type(Workspace().models())\nModel(id=3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", str(installed.python), "script.py"],
        cwd=installed.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "ModelList" in done.stdout
    assert 'Argument "id" to "Model" has incompatible type "int"' in done.stdout
    assert "py.typed" not in done.stdout

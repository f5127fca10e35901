"""Beside the unrelated distribution ``kaptain`` nothing runs: it takes the SDK's place, whichever comes second."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.local.packaging.conftest import Environment

_LOAD = """
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_cell("%load_ext kaptain_magics").raise_error()
"""
_FRONT_DOORS = {
    "the extension": _LOAD,
    "the SDK": "from kaptain.model.models import Model",
    "the Python API": "from kaptain_magics.model import Workspace",
}
_REMEDY = "pip uninstall kaptain, then install kaptain-magics again with pip install --force-reinstall --no-deps"


@pytest.fixture(scope="module")
def unrelated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of another distribution with that name and a package of that name."""
    path = tmp_path_factory.mktemp("unrelated") / "kaptain-0.1.3-py3-none-any.whl"
    info = "kaptain-0.1.3.dist-info"
    files = {
        "kaptain/__init__.py": "captain = 'of a ship'\n",
        "kaptain/main.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: kaptain\nVersion: 0.1.3\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def refusal(installed: Environment, code: str) -> str:
    done = installed.run(code)
    assert done.returncode != 0, "it ran"
    assert "InstallationError" in done.stderr, done.stderr
    return done.stderr[done.stderr.rindex("InstallationError") :]


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_both_orders_are_refused_with_the_remedy_and_the_remedy_helps(
    first: str, wheel: Path, unrelated: Path, environment: Callable[..., Environment]
) -> None:
    installed = environment(*((wheel, unrelated) if first == "ours" else (unrelated, wheel)))
    for code in _FRONT_DOORS.values():
        message = refusal(installed, code)
        assert f"the unrelated distribution kaptain 0.1.3 in {installed.packages}" in message
        assert _REMEDY in message
    if first == "theirs":  # else it is their package that is imported, which cannot know
        assert _REMEDY in refusal(installed, "import kaptain")
    installed.pip("uninstall", "-y", "kaptain")
    message = refusal(installed, _LOAD)  # removing theirs has taken a file of ours away
    assert "is incomplete, as after pip uninstall kaptain" in message
    installed.install(wheel, again=True)
    for code in (*_FRONT_DOORS.values(), "import kaptain; kaptain.log_metrics"):
        done = installed.run(code)
        assert done.returncode == 0, done.stderr


def test_beside_a_checkout_it_is_refused_too(unrelated: Path, environment: Callable[..., Environment]) -> None:
    import kaptain_magics

    installed = environment(unrelated)
    root = Path(kaptain_magics.__file__).parents[1]
    (installed.packages / "checkout.pth").write_text(f"{root}\n{root / 'kaptain_magics/sdk'}\n")
    message = refusal(installed, _LOAD)
    assert f"the unrelated distribution kaptain 0.1.3 in {installed.packages}" in message
    installed.pip("uninstall", "-y", "kaptain")
    assert installed.run(_LOAD).returncode == 0


def test_a_file_of_that_name_beside_the_notebook_is_named(
    wheel: Path, environment: Callable[..., Environment], tmp_path: Path
) -> None:
    installed = environment(wheel)
    (installed.path / "kaptain.py").write_text("")
    message = refusal(installed, _LOAD)
    assert f"`import kaptain` finds {installed.path / 'kaptain.py'}, not the SDK in {installed.packages}" in message
    assert "rename or move that file" in message

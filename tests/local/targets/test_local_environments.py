"""Environments for requirements, and what scripts import: what a local job needs before it starts."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from kaptain_magics.config import Settings
from kaptain_magics.errors import TargetError
from kaptain_magics.model import Workspace
from kaptain_magics.targets.local import imports, requirements_env
from tests.local.processes.test_warm_processes import train


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace(Settings.load())


def wheel(folder: Path, name: str, version: str, source: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def test_requirements_get_an_environment_over_the_kernels(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPTAIN_CACHE", str(tmp_path / "cache"))
    workspace = Workspace(Settings.load())
    wheel(tmp_path, "tiny_of_ours", "1.5", "answer = 42")
    requirements = ("--no-index", f"--find-links {tmp_path}", "tiny_of_ours>=1")
    source = "import numpy, sys, kaptain, tiny_of_ours\nprint(tiny_of_ours.answer, sys.prefix)"
    run = train(workspace, source, requirements=requirements)
    answer, prefix = run.log().split()
    assert answer == "42"
    assert Path(prefix).is_relative_to(tmp_path / "cache")
    again = train(workspace, source, requirements=requirements)
    assert again.log() == run.log()


def test_what_the_kernel_has_needs_no_environment() -> None:
    assert not requirements_env.needed([])
    assert not requirements_env.needed(["msgspec>=0.1", "numpy", "no-such-thing; python_version < '3'"])
    assert requirements_env.needed(["msgspec>=99"])
    assert requirements_env.needed(["no-such-thing"])
    assert requirements_env.needed(["msgspec[extra]"])
    assert requirements_env.needed(["-r other.txt"])


def test_a_stopped_installation_ends(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="stopped while"):
        requirements_env.prepare(["--no-index", "anything"], tmp_path, stop=lambda: True)


def test_scripts_of_the_standard_library_share_a_worker() -> None:
    source = "import os, sys, json.decoder as d\nfrom pathlib import Path, PurePath\nimport sklearn, os.path\n"
    statements = imports.import_statements(source + "from . import x")
    assert statements == [
        "import os", "import sys", "import json.decoder as d", "from pathlib import Path, PurePath",
        "import sklearn", "import os.path",
    ]  # fmt: skip
    assert [s for s in statements if not imports.is_standard(s)] == ["import sklearn"]
    assert imports.imported_packages(source) == ["sklearn"]


def test_pips_own_reason_is_said_without_its_colours(tmp_path: Path) -> None:
    requirements = ["--no-index", "no-such-thing-of-ours"]
    with pytest.raises(TargetError) as failure:
        requirements_env.prepare(requirements, tmp_path, lambda: False, {**os.environ, "FORCE_COLOR": "1"})
    assert "installed: No matching distribution found for no-such-thing-of-ours" in str(failure.value)
    assert "\x1b" not in str(failure.value)

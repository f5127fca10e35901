"""The house's rules of imports hold, and its public names are there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.interpreter
def test_arrows_run_down_only() -> None:
    # a process of its own: it configures the logging of the one that calls it
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_is_short() -> None:
    files = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "kaptain_magics").rglob("*.py")}
    assert {path.name: lines for path, lines in files.items() if lines > 400 and "_pb2" not in path.name} == {}


OWN = {"self", "cls", "super"}
OFFERED = {"_replace", "_asdict", "_make", "_exit"}  # named tuples and os have public names that begin so
OFFERED |= {"_repr_mimebundle_", "_ipython_display_"}  # as do the methods that notebooks call
OFFERED |= {"_name_", "_value_"}  # and what enum documents for members that are made later
FENCED = {  # the only places that use what another library keeps to itself, and why
    "runtime/multipart.py": "minio offers no single steps of a multipart upload; it has an upper bound",
    "runtime/s3_client.py": "minio's errors have no public status and names; the same upper bound",
    "runtime/savers/pytorch.py": "torch.compile's wrapper has no public name for what it wraps",
    "processes/interpreter_exit.py": "a forked child must run what Python runs at the end of a process",
}


def test_private_members_of_others_are_left_alone() -> None:
    for hidden in ("a._b()", "a._b = 1", "self.a._b = 1", "from a import _b", "getattr(a, '_b')", "a()._b"):
        assert list(_private_members(ast.parse(hidden))) == ["_b"], hidden
    package = ROOT / "kaptain_magics"
    calls = {
        (path.relative_to(package).as_posix(), name)
        for path in package.rglob("*.py")
        for name in _private_members(ast.parse(path.read_text("utf-8")))
    }
    assert {place for place, _ in calls} == set(FENCED), sorted(calls)


def _private_members(tree: ast.Module) -> Iterator[str]:
    """Yield the private names that a module uses of other modules, and of anything but its own classes' objects."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        match node:  # what is stored in another's object is no name of ours
            case ast.Attribute(attr=name, value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                own.add(name)
    for node in ast.walk(tree):
        match node:  # a name in a text hides nothing
            case ast.ImportFrom(names=names):
                yield from (a.name for a in names if a.name.startswith("_") and not a.name.startswith("__"))
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                if name.startswith("_") and not name.startswith("__") and name not in OFFERED:
                    yield name
        if not isinstance(node, ast.Attribute):
            continue
        name, value = node.attr, node.value
        base = value.func if isinstance(value, ast.Call) else value
        ours = isinstance(base, ast.Name) and base.id in OWN
        if name.startswith("_") and not name.startswith("__") and name not in OFFERED | own and not ours:
            yield name


BY_NAME = re.compile(
    r"""[!=]=\ "(?:local|docker|kubernetes)"|"(?:local|docker|kubernetes)"\ [!=]=
    |isinstance\([\w.]*target[\w.]*,\ *(?:Local|Docker|Kubernetes)|(?:get|has)attr\([\w.]*target,""",
    re.VERBOSE,
)


def test_targets_are_asked_what_they_can_do_and_not_who_they_are() -> None:
    package = ROOT / "kaptain_magics"
    assert BY_NAME.search('if target.name == "docker":')
    assert [path.name for path in package.rglob("*.py") if BY_NAME.search(path.read_text("utf-8"))] == []


@pytest.mark.interpreter
def test_the_sdk_has_the_contracts_names() -> None:
    code = """
from kaptain import envs
from kaptain.model.models import Model
from kaptain.model.frameworks import ModelFramework
from kaptain.hyperparameter.domains import Double, Discrete, Integer, Categorical
from kaptain.hyperparameter.algorithms import Algorithm
from kaptain.platform.model_export_util import ModelExportUtil
from kaptain.platform.metadata_util import MetadataUtil
from kaptain.platform.serving.transformer import Transformer
from kaptain.platform.image_builder_util import ImageBuilderUtil
from kaptain.platform.constants import CONFIG_MAP_KIND, SECRET_KIND
from kaptain.config import Config, S3ConfigurationProvider, DefaultMinioConfigurationProvider
import kaptain.exceptions, kaptain.utils
envs.VERBOSE = True
import kaptain_magics.model.contract.envs
assert kaptain_magics.model.contract.envs.VERBOSE is True
for module in (kaptain.exceptions, kaptain.utils):
    assert all(hasattr(module, name) for name in module.__all__)
assert Algorithm.of("random") is Algorithm.RANDOM
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

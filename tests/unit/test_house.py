"""The house's rules of imports hold, and its public names are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_arrows_run_down_only() -> None:
    # a process of its own: it configures the logging of the one that calls it
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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

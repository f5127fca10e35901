"""The names of the vendor's SDK are where its documents say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from kaptain import envs

NAMES = {
    "kaptain.platform.config.provider": (
        "ConfigurationProvider",
        "FileBasedConfigurationProvider",
        "EnvironmentVariableConfigurationProvider",
    ),
    "kaptain.platform.config.certificates": ("DockerRegistryCertificateProvider",),
    "kaptain.platform.config.docker": ("DockerConfigurationProvider",),
    "kaptain.platform.config.s3": ("S3ConfigurationProvider",),
    "kaptain.platform.config.defaults": ("DefaultMinioConfigurationProvider",),
}


@pytest.mark.parametrize("module", NAMES)
def test_providers(module: str) -> None:
    config = importlib.import_module("kaptain.config")
    for name in NAMES[module]:
        assert getattr(importlib.import_module(module), name) is getattr(config, name)


@pytest.mark.parametrize("name", ["DELETE_EXPERIMENT", "TTL_SECONDS_AFTER_FINISHED", "FORCE_CLEANUP"])
def test_switches_with_two_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs, f"KAPTAIN_SDK_{name}", 7)
    assert getattr(envs, name) == 7
    setattr(envs, name, 8)
    assert getattr(envs, f"KAPTAIN_SDK_{name}") == 8
    with pytest.raises(AttributeError):
        _ = envs.UNKNOWN


def test_properties_of_torchserve(tmp_path: Path) -> None:
    from kaptain.platform.serving.packaging.artifact_builder import TorchServingArtifactBuilder
    from kaptain.utilities import sanitize_string

    name = sanitize_string("dev/mnist")
    TorchServingArtifactBuilder.write_config_properties(name, f"{name}.mar", str(tmp_path))
    lines = (tmp_path / "config.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert properties["inference_address"] == "http://0.0.0.0:8085"
    models = json.loads(properties["model_snapshot"])["models"]
    assert models["dev-mnist"]["1.0"]["marName"] == "dev-mnist.mar"


def test_the_script_may_be_among_the_extra_files(home: Path, tmp_path: Path) -> None:
    from kaptain.model.models import Model

    from kaptain_magics.model.requests import TrainingRequest

    for name in ("training.py", "helper.py"):
        (tmp_path / name).write_text("x = 1\n")
    files = [str(tmp_path / name) for name in ("training.py", "helper.py")]
    model = Model(id="dev/x", name="X", main_file=files[0], extra_files=files)
    assert model._complete(TrainingRequest()).files == (files[1],)

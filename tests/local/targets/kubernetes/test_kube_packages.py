"""What the runtime needs in a pod: the packages of this environment, under one name a platform."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kaptain_magics.images.progress import silent
from kaptain_magics.images.runtime_packages import (
    bundle,
    fetch_runtime_packages,
    platform_name,
    this_platform,
    versions_in,
)
from kaptain_magics.images.wheels import Platform
from kaptain_magics.runtime.own_requirements import OWN_PACKAGES, STORAGE_PACKAGES
from kaptain_magics.targets.kubernetes.pods.package_bundles import folder_of


def own() -> Platform:
    found = this_platform()
    assert found is not None, "packages of this environment fit images of Linux with glibc only"
    return found


def test_own_packages_are_those_of_this_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import version

    mine = own()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = fetch_runtime_packages(OWN_PACKAGES, mine, tmp_path, silent)
    assert {name: version(name) for name in ("minio", "msgspec", "orjson", "httptools", "certifi")}.items() <= (
        versions_in(folder).items()
    )
    assert fetch_runtime_packages(OWN_PACKAGES, mine, tmp_path, silent) == folder
    lacking = fetch_runtime_packages(STORAGE_PACKAGES, mine, tmp_path, silent, {"urllib3": "2.0", "certifi": "2026"})
    assert "minio" in versions_in(lacking)
    assert not {"urllib3", "certifi"} & set(versions_in(lacking))
    text = "".join(path.read_text("utf-8", "replace") for path in folder.rglob("*.dist-info/*") if path.is_file())
    assert str(Path(sys.prefix)) not in text  # no path of this machine travels
    packed = bundle(folder, tmp_path)
    assert packed == bundle(folder, tmp_path)
    assert packed.path.stat().st_size < 40_000_000


def test_a_platform_has_one_name() -> None:
    assert platform_name(Platform("3.11", "x86_64", 36)) == "cp311-x86_64-glibc"
    assert platform_name(Platform.of("3.13", "arm64", musl=True)) == "cp313-aarch64-musl"
    from kaptain_magics.targets.kubernetes.inside import start

    assert start.platform_name() == platform_name(own())


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("s3://b/models/dev/mnist/trained/1", "s3://b/models/.kaptain/packages"),
        ("s3://b/dev/mnist/trials/s/t", "s3://b/.kaptain/packages"),
        ("s3://b/given/by/hand", "s3://b/given/by/.kaptain/packages"),
    ],
)
def test_packages_lie_beside_all_models(uri: str, folder: str) -> None:
    assert folder_of(uri, "dev/mnist") == folder

"""Packages in the object store go when they are old and nothing uses them, and not a day before."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.storage import open_store
from kaptain_magics.targets.kubernetes.pods.package_bundles import LISTED, Bundles, folder_below, folder_of
from kaptain_magics.targets.kubernetes.pods.package_pruning import PackagePruner
from tests.unit.targets.kubernetes.scripted_api import listing, serve

__all__ = ["serve"]
DAY = 86400.0


class Store:
    """A store's folder of packages, with pruners of several namespaces and owners."""

    def __init__(self, folder: Path, begin: Any) -> None:
        self.folder = folder_below(folder.as_uri())
        self.path = folder / ".kaptain" / "packages"
        self.cluster, self.script = begin({"secrets": [listing(1)]})

    def bundle(self, name: str, days: float) -> Bundles:
        uri = f"{self.folder}/{name}"
        open_store(uri, {}).write(uri, b"packages")
        self.age(name, days)
        return {"serving": {"cp312-x86_64-glibc": [uri, "digest"]}}

    def age(self, name: str, days: float) -> None:
        at = time.time() - days * DAY
        for path in self.path.rglob(name):
            os.utime(path, (at, at))

    def pruner(self, payloads: dict[str, Bundles] | None = None, owner: str = "jane") -> PackagePruner:
        secrets = [secret(name, bundles) for name, bundles in (payloads or {}).items()]
        self.script.answers["secrets"] = [listing(1, *secrets)]
        return PackagePruner(self.cluster, owner, lambda uri: open_store(uri, {}))

    def left(self, pruner: PackagePruner) -> set[str]:
        for each in list(pruner.unused(self.folder)):
            assert pruner.remove(self.folder, each), each
        return {path.relative_to(self.path).parts[0] for path in self.path.rglob("*") if path.is_file()}


def secret(name: str, bundles: Bundles) -> dict[str, Any]:
    listed = base64.b64encode(json.dumps({"wanted": {}, "bundles": bundles}).encode()).decode()
    labels = {"kaptain-magics/part": "payload"}
    about = {"name": name, "uid": name, "resourceVersion": "1", "labels": labels}
    return {"metadata": about, "data": {LISTED: listed}}


@pytest.fixture
def store(tmp_path: Path, serve: Any) -> Store:
    return Store(tmp_path / "models", serve)


def test_the_folder_is_the_same_for_all_models(tmp_path: Path) -> None:
    base = (tmp_path / "models").as_uri()
    assert folder_of(f"{base}/dev/mnist/trained/1", "dev/mnist") == folder_below(base) == folder_below(f"{base}/")


def test_what_is_old_and_unused_goes(store: Store) -> None:
    store.bundle("young", 29)
    store.bundle("old", 31)
    (unused,) = store.pruner().unused(store.folder)
    assert unused.line == f"packages {store.folder}/old, which nothing has used for 30 days"
    assert store.left(store.pruner()) == {"young"}


def test_what_a_payload_of_the_namespace_names_stays(store: Store) -> None:
    used = store.bundle("old", 90)
    assert store.left(store.pruner({"anybodys-script": used})) == {"old"}


def test_what_an_endpoint_of_another_namespace_uses_stays(store: Store) -> None:
    used = store.bundle("old", 90)
    store.pruner(owner="joe").record(store.folder, "joes-server-0a1b2c3d", used)
    store.age("*.json", 60)
    assert store.left(store.pruner()) == {"old", "used-by"}


def test_the_record_of_an_endpoint_that_is_gone_goes_first(store: Store) -> None:
    used = store.bundle("old", 90)
    store.pruner().record(store.folder, "mine-server-0a1b2c3d", used)
    assert store.left(store.pruner()) == {"old", "used-by"}  # its payload may still be on its way
    store.age("*.json", 2)
    assert store.left(store.pruner({"mine-server-0a1b2c3d": {}})) == {"old", "used-by"}
    assert store.left(store.pruner()) == set()


def test_what_came_into_use_meanwhile_stays(store: Store) -> None:
    store.bundle("old", 90)
    pruner = store.pruner()
    (unused,) = pruner.unused(store.folder)
    store.age("old", 0)
    assert not pruner.remove(store.folder, unused)
    assert (store.path / "old").exists()


def test_nothing_is_asked_of_the_cluster_while_all_is_young(store: Store) -> None:
    store.bundle("young", 1)
    cluster: Any = type("Silent", (), {"host": "h", "namespace": "n"})()
    assert list(PackagePruner(cluster, "jane", lambda uri: open_store(uri, {})).unused(store.folder)) == []

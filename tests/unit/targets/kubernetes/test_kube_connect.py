"""Where the configuration of the cluster comes from: a kubeconfig, or the service account of the pod around."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaptain_magics.errors import TargetError
from kaptain_magics.targets.kubernetes.api import client
from kaptain_magics.targets.kubernetes.api.client import Cluster


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a service account, as a pod has it; there is no kubeconfig."""
    from kubernetes.config import incluster_config

    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    for name, content in {"token": "the-token", "ca.crt": "the-authority", "namespace": "team-a\n"}.items():
        (folder / name).write_text(content)
    monkeypatch.setattr(client, "IN_CLUSTER", folder)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(Cluster, "__init__", remember)
    return folder


def remember(self: Cluster, configuration: object, namespace: str, inside: bool = False) -> None:
    """Take what a connection is made of without one: the authority of these tests is none."""
    self.configuration, self.namespace, self.inside = configuration, namespace, inside
    self.host = configuration.host  # type: ignore[attr-defined]


def kubeconfig(folder: Path) -> Path:
    path = folder / "kubeconfig"
    context = {"name": "far", "context": {"cluster": "far", "user": "jane", "namespace": "team-b"}}
    content = {
        "clusters": [{"name": "far", "cluster": {"server": "https://far.example.com"}}],
        "users": [{"name": "jane", "user": {"token": "janes-token"}}],
        "contexts": [context],
        "current-context": "far",
    }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("settings", "namespace"), [({}, "team-a"), ({"namespace": "team-c"}, "team-c")])
def test_a_pod_uses_its_service_account(account: Path, settings: dict[str, str], namespace: str) -> None:
    cluster = Cluster.connect(settings)
    assert (cluster.host, cluster.namespace, cluster.inside) == ("https://10.0.0.1:443", namespace, True)
    assert cluster.configuration.ssl_ca_cert == str(account / "ca.crt")
    assert {name.lower(): text.lower() for name, text in cluster.credentials().items()} == {
        "authorization": "bearer the-token"
    }


@pytest.mark.parametrize("named", ["setting", "variable"])
def test_a_pod_with_a_kubeconfig_is_outside_of_that_cluster(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    assert account.exists()
    path = str(kubeconfig(tmp_path))
    if named == "variable":
        monkeypatch.setenv("KUBECONFIG", path)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
    cluster = Cluster.connect({"kubeconfig": path} if named == "setting" else {})
    assert (cluster.host, cluster.namespace, cluster.inside) == ("https://far.example.com", "team-b", False)


def test_a_service_account_without_a_token_is_refused_clearly(account: Path) -> None:
    (account / "token").unlink()
    with pytest.raises(TargetError, match="no usable Kubernetes configuration"):
        Cluster.connect({})

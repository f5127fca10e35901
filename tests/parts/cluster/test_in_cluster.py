"""A pod's own service account is enough to work on its cluster."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from kaptain_magics.targets.kubernetes.api import client
from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster

pytestmark = pytest.mark.cluster


def test_the_service_account_of_a_pod(
    kubeconfig: Path, namespace: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    where = namespace.path("ServiceAccount", "default")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = namespace.request("POST", f"{where}/token", None, review)["status"]["token"]
    about = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    encoded = about.get("certificate-authority-data")
    authority = base64.b64decode(encoded) if encoded else Path(about["certificate-authority"]).read_bytes()
    for name, content in {
        "token": token.encode(),
        "ca.crt": authority,
        "namespace": namespace.namespace.encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(client, "IN_CLUSTER", tmp_path)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    server = urlsplit(namespace.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(server.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)

    inside = Cluster.connect({})
    assert (inside.namespace, inside.inside) == (namespace.namespace, True)
    assert not inside.allowed("create", "Job")
    with pytest.raises(ApiError) as refused:
        inside.list("Job")
    assert refused.value.code == 403

    group = "rbac.authorization.k8s.io"
    role = {"rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "list"]}]}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace.namespace}
    binding = {"roleRef": {"apiGroup": group, "kind": "Role", "name": "jobs"}, "subjects": [subject]}
    for kind, plural, content in (("Role", "roles", role), ("RoleBinding", "rolebindings", binding)):
        made = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "jobs"}, **content}
        namespace.request("POST", f"/apis/{group}/v1/namespaces/{namespace.namespace}/{plural}", None, made)
    assert inside.allowed("create", "Job")
    assert inside.list("Job") == []

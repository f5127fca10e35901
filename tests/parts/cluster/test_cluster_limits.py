"""What a cluster does not allow or has no room for is reported in one sentence with the next step."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.events import Event
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import TargetError
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import Cluster
from tests.parts.cluster.jobs import SLOW, gone, job, last, run, warnings
from tests.parts.cluster.rig import eventually, fresh_namespace, target_config

pytestmark = [pytest.mark.cluster, pytest.mark.s3]


@pytest.fixture
def target(kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path) -> KubernetesTarget:
    return KubernetesTarget(target_config(kubeconfig, namespace, tmp_path / "home", cluster_image))


@pytest.fixture
def limited(kubeconfig: Path, namespace: Cluster, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Makes a kubeconfig of a service account that may do no more than the given rules say."""

    def make(rules: list[dict[str, Any]]) -> Path:
        name = f"limited-{new_hex(6)}"
        where = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.namespace}"
        namespace.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        group = "rbac.authorization.k8s.io"
        role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}
        namespace.request("POST", f"{where}/roles", None, role)
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.namespace}],
        }
        namespace.request("POST", f"{where}/rolebindings", None, binding)
        token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
        made = namespace.request("POST", f"{namespace.path('ServiceAccount', name)}/token", None, token)
        import yaml

        config = yaml.safe_load(kubeconfig.read_text())
        config["users"] = [{"name": name, "user": {"token": made["status"]["token"]}}]
        config["contexts"][0]["context"]["user"] = name
        path = tmp_path / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    return make


ALL = ["create", "get", "list", "watch", "patch", "delete"]


def rule(group: str, *resources: str, verbs: list[str] | None = None) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": verbs or ALL}


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([], "may not get jobs"),
        ([rule("batch", "jobs")], "may not create secrets"),
        ([rule("", "secrets"), rule("batch", "jobs", verbs=["get", "list", "watch"])], "may not create jobs"),
    ],
    ids=["nothing", "no secrets", "no jobs"],
)
def test_too_few_permissions_to_submit(
    limited: Any, namespace: Cluster, cluster_image: str, tmp_path: Path, rules: list[dict[str, Any]], missing: str
) -> None:
    target = KubernetesTarget(target_config(limited(rules), namespace, tmp_path / "home", cluster_image))
    with pytest.raises(TargetError) as refused:
        target.submit(job("print(1)"))
    assert missing in refused.value.message
    assert "administrator" in refused.value.hint
    gone(namespace)
    checks = {check.name: check for check in target.check()}
    assert not checks["permissions for jobs"].ok
    assert missing.rpartition(" ")[2] in checks["permissions for jobs"].detail


def test_a_job_that_may_not_be_followed(limited: Any, namespace: Cluster, cluster_image: str, tmp_path: Path) -> None:
    rules = [rule("", "secrets"), rule("batch", "jobs")]
    target = KubernetesTarget(target_config(limited(rules), namespace, tmp_path / "home", cluster_image))
    end = last(run(target, job(SLOW.format(10_000))))
    assert end.state is RunState.FAILED
    assert "may not list pods" in end.reason
    gone(namespace)


def test_events_are_not_needed(limited: Any, namespace: Cluster, cluster_image: str, tmp_path: Path) -> None:
    rules = [rule("", "secrets", "pods"), rule("", "pods/log", verbs=["get"]), rule("batch", "jobs")]
    target = KubernetesTarget(target_config(limited(rules), namespace, tmp_path / "home", cluster_image))
    assert last(run(target, job("print(1)"))).state is RunState.SUCCEEDED


def quota(cluster: Cluster, **hard: str) -> None:
    spec = {"hard": {name.replace("_", "."): value for name, value in hard.items()}}
    cluster.create(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "kf-resource-quota"}, "spec": spec}
    )
    eventually(lambda: cluster.list("ResourceQuota")[0].get("status", {}).get("hard"))


def test_quotas(kubeconfig: Path, cluster_image: str, tmp_path: Path) -> None:
    with fresh_namespace(kubeconfig) as cluster:
        quota(cluster, requests_cpu="1", requests_memory="1G")
        target = KubernetesTarget(target_config(kubeconfig, cluster, tmp_path / "home", cluster_image))
        end = last(run(target, job("print(1)")))
        assert end.state is RunState.FAILED
        assert "cpu and memory to be named" in end.reason
        assert "--cpu 0.5 --memory 1G" in end.hint
        end = last(run(target, job("print(1)", resources=Resources.simple("2", "100M"))))
        assert end.state is RunState.FAILED
        assert "kf-resource-quota exceeded" in end.reason
        (check,) = [check for check in target.check() if check.name.startswith("quota")]
        assert "--cpu and --memory" in check.hint
        # One waits until the other has ended and then runs.
        half = Resources.simple("0.6", "100M")
        first = target.submit(job(SLOW.format(60), resources=half))
        ends: list[list[Event]] = []
        threads = [threading.Thread(target=lambda ref=first: ends.append(list(target.follow(ref))))]
        threads[0].start()
        eventually(lambda: cluster.list("Pod", f"job-name={first.name}"))
        second = target.submit(job("print('after')", resources=half))
        events = list(target.follow(second))
        threads[0].join(120)
        assert any("exceeded" in text for text in warnings(events))
        assert [last(found).state for found in (*ends, events)] == [RunState.SUCCEEDED] * 2
        gone(cluster)


def test_a_pod_that_no_node_has_room_for(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path
) -> None:
    config = target_config(kubeconfig, namespace, tmp_path / "home", cluster_image, pending_timeout="2")
    events = run(KubernetesTarget(config), job("print(1)", resources=Resources.simple("500", "1G")))
    assert last(events).state is RunState.FAILED
    assert "Insufficient cpu" in last(events).reason
    assert "--cpu" in last(events).hint
    assert any("no node has room" in text for text in warnings(events))
    gone(namespace)


def test_a_namespace_that_is_not_there(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, tmp_path: Path
) -> None:
    config = target_config(kubeconfig, namespace, tmp_path / "home", cluster_image)
    settings = {**config.settings, "namespace": "not-there"}
    target = KubernetesTarget(msgspec.structs.replace(config, settings=settings))
    with pytest.raises(TargetError, match="no namespace not-there"):
        target.submit(job("print(1)"))


def test_no_server_answers(namespace: Cluster, kubeconfig: Path, tmp_path: Path) -> None:
    path = tmp_path / "away"
    path.write_text(re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:9", kubeconfig.read_text()))
    target = KubernetesTarget(target_config(path, namespace, tmp_path / "home", "image:1"))
    before = time.monotonic()
    with pytest.raises(TargetError, match="does not answer"):
        target.submit(job("print(1)"))
    (check,) = target.check()
    assert (check.ok, "does not answer" in check.detail) == (False, True)
    assert time.monotonic() - before < 30


def test_several_workers_are_refused_clearly(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = job("print(1)", framework=ModelFramework.PYTORCH, workers=3)
    with pytest.raises(TargetError, match="cannot run a job of 3 workers") as refused:
        target.submit(spec)
    assert "--workers 1" in refused.value.hint
    gone(namespace)

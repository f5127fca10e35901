"""Canaries on a cluster without KServe that cannot have their share: the endpoint is what it was before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex, new_run_id
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import NotFoundError, ServingError
from kaptain_magics.storage import open_store
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.endpoints import portforward
from kaptain_magics.targets.kubernetes.endpoints.plain import PlainServing
from kaptain_magics.testing.serving_rig import MARKED, STEP, ask
from tests.parts.cluster.rig import BUCKET, eventually, target_config
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]


@pytest.fixture
def target(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path
) -> KubernetesTarget:
    config = target_config(
        kubeconfig, namespace, tmp_path / "home", cluster_image, pod_storage, cluster_serving="plain"
    )
    return KubernetesTarget(config)


@pytest.fixture
def artifact(pod_storage: SeaweedFS, tmp_path: Path) -> str:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.py").write_text(MARKED.format(mark=STEP))
    uri = f"s3://{BUCKET}/served/{new_hex(32)}"
    open_store(uri, pod_storage.env).put(folder, uri)
    return uri


def endpoint(artifact: str, revision: int, **changes: Any) -> EndpointSpec:
    given: dict[str, Any] = {
        "name": "dev-canary",
        "run_id": new_run_id(),
        "model_id": "dev/canary",
        "revision": f"{revision:032x}",
        "artifact_uri": artifact,
        "framework": ModelFramework.PYTHON,
        "resources": Resources.simple("0.1", "200M"),
    }
    return EndpointSpec(**{**given, **changes})


def last(events: list[Event]) -> StateChanged:
    assert isinstance(events[-1], StateChanged), events
    return events[-1]


def replicas(cluster: Cluster) -> dict[str, int]:
    """The replicas of every revision, by its last digit."""
    found = cluster.list("Deployment")
    return {d["metadata"]["labels"]["kaptain-magics/revision"][-1]: d["spec"]["replicas"] for d in found}


def test_a_canary_without_room_for_its_share_is_taken_back(
    target: KubernetesTarget, namespace: Cluster, artifact: str
) -> None:
    stable = endpoint(artifact, 1, max_replicas=3, transformer={"image_name": "team/transformer:1"})
    events = list(target.deploy(stable))
    assert last(events).state is RunState.SUCCEEDED, events
    assert any(event.warning and "transformer" in event.text for event in events if isinstance(event, Noted))
    assert len(namespace.list("HorizontalPodAutoscaler")) == 1
    hard = {"pods": "2"}
    namespace.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "two"}, "spec": {"hard": hard}})
    eventually(lambda: namespace.list("ResourceQuota")[0].get("status", {}).get("hard"))

    end = last(list(target.deploy(endpoint(artifact, 2, canary_percent=20, timeout=30.0))))
    assert (end.state, "did not become ready" in end.reason) == (RunState.FAILED, True), end
    assert replicas(namespace) == {"1": 1}
    assert len(namespace.list("HorizontalPodAutoscaler")) == 1

    eventually(lambda: len(namespace.list("Pod")) == 1)
    even = list(target.deploy(endpoint(artifact, 3, canary_percent=50, timeout=60.0)))
    assert last(even).state is RunState.SUCCEEDED, even
    assert replicas(namespace) == {"1": 1, "3": 1}

    namespace.patch("ResourceQuota", "two", {"spec": {"hard": {"pods": "3"}}})
    eventually(lambda: namespace.list("ResourceQuota")[0].get("status", {}).get("hard") == {"pods": "3"})
    end = last(list(target.deploy(endpoint(artifact, 4, canary_percent=20, timeout=30.0))))
    assert end.state is RunState.FAILED, end
    assert replicas(namespace) == {"1": 1, "3": 1}  # the canary before is still there

    for deployment in namespace.list("Deployment"):
        namespace.patch("Deployment", deployment["metadata"]["name"], {"spec": {"progressDeadlineSeconds": 10}})
    with pytest.raises(ServingError, match="did not become ready"):
        target.set_traffic("dev-canary", 10)
    assert replicas(namespace) == {"1": 1, "3": 1}
    status = target.endpoint("dev-canary")
    assert set(status.traffic) == {f"{1:032x}", f"{3:032x}"}
    assert ask(status, [[1, 2]]) == [1]
    target.undeploy("dev-canary")


def test_the_forward_of_another_process_follows_a_swap(
    target: KubernetesTarget, pod_storage: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked all the time, so that it has just looked which pods there are."""

    def deploy(number: int) -> None:
        folder = tmp_path / f"model{number}"
        folder.mkdir()
        (folder / "model.py").write_text(MARKED.format(mark=number * STEP))
        uri = f"s3://{BUCKET}/served/{new_hex(32)}"
        open_store(uri, pod_storage.env).put(folder, uri)
        end = last(list(target.deploy(endpoint(uri, number, name="dev-swapped", replace=number > 1))))
        assert end.state is RunState.SUCCEEDED, end

    deploy(1)
    other = target.endpoint("dev-swapped")
    monkeypatch.setattr(portforward, "_forwards", {})  # that listener does not learn what this process does
    with ThreadPoolExecutor(1) as pool:
        for number in range(2, 6):
            swap = pool.submit(deploy, number)
            while not swap.done():
                assert ask(other, [[1, 2]])[0] in (number - 1, number)
            swap.result()
            assert [ask(other, [[1, 2]]) for _ in range(20)] == [[number]] * 20
    target.undeploy("dev-swapped")


def test_a_replacement_that_is_killed_when_the_new_revision_is_ready(
    target: KubernetesTarget, namespace: Cluster, artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(NotFoundError):
        target.undeploy("dev-canary")
    assert last(list(target.deploy(endpoint(artifact, 1)))).state is RunState.SUCCEEDED

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PlainServing, "_retire", killed)
        with pytest.raises(KeyboardInterrupt):
            list(target.deploy(endpoint(artifact, 2, replace=True)))
    assert replicas(namespace) == {"1": 1, "2": 1}
    target.clean(force=True)
    assert replicas(namespace) == {"2": 1}
    assert target.endpoint("dev-canary").traffic == {f"{2:032x}": 100}
    assert target.clean() == []
    target.undeploy("dev-canary")

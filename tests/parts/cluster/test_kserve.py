"""Endpoints on KServe; its controller is played by a stand-in, its definition checks every manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kaptain_magics.core.events import EndpointChanged, Event, Noted, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex, new_run_id
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import NotFoundError, ServingError
from kaptain_magics.storage import open_store
from kaptain_magics.targets.kubernetes import KubernetesTarget
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.testing.serving_rig import MARKED, STEP, ask
from tests.certificates import self_signed
from tests.parts.cluster.rig import BUCKET, eventually, kubectl, ours, target_config
from tests.parts.cluster.standins import KServeStandIn, definitions
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.s3]


@pytest.fixture(scope="module", autouse=True)
def kserve(namespace: Cluster) -> Iterator[None]:
    with definitions(namespace, "kserve.json"):
        yield


@pytest.fixture
def target(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path
) -> KubernetesTarget:
    return KubernetesTarget(
        target_config(kubeconfig, namespace, tmp_path / "home", cluster_image, pod_storage, kserve_mode="serverless")
    )


def endpoint(**changes: Any) -> EndpointSpec:
    spec = EndpointSpec(
        name="dev-mnist",
        run_id=new_run_id(),
        model_id="dev/mnist",
        revision=new_hex(32),
        artifact_uri=f"s3://{BUCKET}/models/dev/mnist/deploy/{new_hex(32)}",
        framework=ModelFramework.SKLEARN,
        resources=Resources.simple("0.5", "500M"),
        timeout=60.0,
    )
    return msgspec.structs.replace(spec, **changes)


def last(events: list[Event]) -> StateChanged:
    assert isinstance(events[-1], StateChanged), events
    return events[-1]


def table(events: list[Event]) -> list[tuple[EndpointState, dict[str, int]]]:
    return [(event.state, event.traffic) for event in events if isinstance(event, EndpointChanged)]


def test_the_tutorials_deployment(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = endpoint()
    with KServeStandIn(namespace):
        events = list(target.deploy(spec))
        assert last(events).state is RunState.SUCCEEDED, events
        texts = [event.text for event in events if isinstance(event, Noted)]
        where = f"in namespace {namespace.namespace}."
        assert texts[:4] == [
            f"Reading secret dev-mnist-secret {where}",
            f"Creating secret dev-mnist-secret {where}",
            f"Reading service account dev-mnist-service-account {where}",
            f"Creating service account dev-mnist-service-account {where}",
        ]
        assert table(events)[0] == (EndpointState.PENDING, {})
        assert table(events)[-1] == (EndpointState.READY, {spec.revision: 100})
        changed = [event for event in events if isinstance(event, EndpointChanged)][-1]
        inside = f"http://dev-mnist.{namespace.namespace}.svc.cluster.local/v2/models/dev-mnist/infer"
        assert (changed.cluster_url, changed.traffic) == (inside, {spec.revision: 100})
        status = target.endpoint("dev-mnist")
        assert (status.state, status.model_id, status.framework) == (EndpointState.READY, "dev/mnist", "sklearn")
        assert [e.name for e in target.endpoints()] == ["dev-mnist"]

        again = last(list(target.deploy(endpoint())))
        assert (again.state, "--replace" in again.hint) == (RunState.FAILED, True)
        replaced = endpoint(replace=True)
        events = list(target.deploy(replaced))
        assert last(events).state is RunState.SUCCEEDED
        assert f"Patching secret dev-mnist-secret {where}" in [e.text for e in events if isinstance(e, Noted)]
        assert target.endpoint("dev-mnist").traffic == {replaced.revision: 100}
        target.undeploy("dev-mnist")
        with pytest.raises(NotFoundError):
            target.endpoint("dev-mnist")
    eventually(lambda: ours(namespace) == [])


def test_a_private_authority_is_given_to_kserves_initializer(
    kubeconfig: Path, namespace: Cluster, cluster_image: str, pod_storage: SeaweedFS, tmp_path: Path
) -> None:
    certificate, _ = self_signed(tmp_path, "s3.example.org")
    config = target_config(kubeconfig, namespace, tmp_path / "home", cluster_image, pod_storage)
    env = {**pod_storage.env, "S3_ENDPOINT": "https://s3.example.org", "AWS_CA_BUNDLE": str(certificate)}
    target = KubernetesTarget(msgspec.structs.replace(config, storage_env=env))
    with KServeStandIn(namespace):
        for spec in (endpoint(), endpoint(replace=True)):
            assert last(list(target.deploy(spec))).state is RunState.SUCCEEDED
        trusted = namespace.get("ConfigMap", "dev-mnist-authorities")
        access = namespace.get("Secret", "dev-mnist-secret")
        assert trusted is not None
        assert access is not None
        assert trusted["data"] == {"cabundle.crt": certificate.read_text()}
        assert access["metadata"]["annotations"]["serving.kserve.io/s3-cabundle-configmap"] == "dev-mnist-authorities"
        assert "AWS_CA_BUNDLE" not in access["data"]  # a path of this machine
        target.undeploy("dev-mnist")
    eventually(lambda: ours(namespace) == [])


def test_canary_promoted_and_rolled_back(target: KubernetesTarget, namespace: Cluster) -> None:
    one, two, three = (endpoint(revision=f"{n:032x}") for n in (1, 2, 3))
    with KServeStandIn(namespace):
        assert last(list(target.deploy(one))).state is RunState.SUCCEEDED
        with pytest.raises(ServingError):
            target.set_traffic("dev-mnist", 50)
        events = list(target.deploy(msgspec.structs.replace(two, canary_percent=30)))
        assert last(events).state is RunState.SUCCEEDED
        assert list(table(events)[-1][1].items()) == [(one.revision, 70), (two.revision, 30)]
        assert target.endpoint("dev-mnist").traffic == {one.revision: 70, two.revision: 30}
        target.set_traffic("dev-mnist", 60)
        eventually_traffic(target, {one.revision: 40, two.revision: 60})
        target.set_traffic("dev-mnist", 0)
        eventually_traffic(target, {one.revision: 100})
        service = namespace.get("InferenceService", "dev-mnist")
        assert service is not None
        assert service["spec"]["predictor"]["model"]["storageUri"] == one.artifact_uri
        assert last(list(target.deploy(msgspec.structs.replace(three, canary_percent=10)))).state is RunState.SUCCEEDED
        target.set_traffic("dev-mnist", 100)
        eventually_traffic(target, {three.revision: 100})
        target.undeploy("dev-mnist")


def eventually_traffic(target: KubernetesTarget, wanted: dict[str, int]) -> None:
    eventually(lambda: target.endpoint("dev-mnist").traffic == wanted)


def test_a_framework_that_kserve_has_no_server_for(
    target: KubernetesTarget, namespace: Cluster, pod_storage: SeaweedFS, tmp_path: Path
) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "model.py").write_text(MARKED.format(mark=STEP))
    uri = f"s3://{BUCKET}/served/{new_hex(32)}"
    open_store(uri, pod_storage.env).put(artifact, uri)
    spec = endpoint(framework=ModelFramework.PYTHON, artifact_uri=uri)
    with KServeStandIn(namespace):
        events = list(target.deploy(spec))
        assert last(events).state is RunState.SUCCEEDED, events
        status = target.endpoint("dev-mnist")
        assert status.replicas == 1
        assert ask(status, [[1, 2], [3, 4]]) == [1, 1]
        target.undeploy("dev-mnist")


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(target: KubernetesTarget, namespace: Cluster) -> None:
    one, two = endpoint(revision=f"{1:032x}"), endpoint(revision=f"{2:032x}", replace=True)
    with KServeStandIn(namespace, fail="unpickling failed") as controller:
        end = last(list(target.deploy(one)))
        assert (end.state, "unpickling failed" in end.reason) == (RunState.FAILED, True)
        with pytest.raises(NotFoundError):
            target.endpoint("dev-mnist")
        eventually(lambda: ours(namespace) == [])
        controller.fail = ""  # type: ignore[attr-defined]
        assert last(list(target.deploy(one))).state is RunState.SUCCEEDED
        controller.fail = "unpickling failed"  # type: ignore[attr-defined]
        end = last(list(target.deploy(two)))
        assert end.state is RunState.FAILED
        controller.fail = ""  # type: ignore[attr-defined]
        service = namespace.get("InferenceService", "dev-mnist")
        assert service is not None
        assert service["spec"]["predictor"]["model"]["storageUri"] == one.artifact_uri
        target.undeploy("dev-mnist")


def test_nobody_reconciles(target: KubernetesTarget, namespace: Cluster) -> None:
    end = last(list(target.deploy(endpoint(timeout=2.0))))
    assert (end.state, "2 s" in end.reason) == (RunState.FAILED, True)
    eventually(lambda: ours(namespace) == [])


def test_requirements_are_served_or_refused_aloud(target: KubernetesTarget, namespace: Cluster) -> None:
    spec = endpoint(requirements=("pandas>=2", "polars"))
    (payload,) = [thing for thing in yaml.safe_load_all(target.render(spec)) if "-server-" in thing["metadata"]["name"]]
    assert "requirements.txt" in payload["data"]  # serve.py installs them
    named = msgspec.structs.replace(spec, serving_config={"runtime": "team-runtime"})
    with KServeStandIn(namespace):
        events = list(target.deploy(named))
        assert last(events).state is RunState.SUCCEEDED, events
        (warning,) = [event for event in events if isinstance(event, Noted) and event.warning]
        assert ("team-runtime" in warning.text, "requirements" in warning.text) == (True, True)
        target.undeploy("dev-mnist")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"protocol": "v1", "min_replicas": 0, "max_replicas": 4, "env": {"A": "b"}},
        {"canary_percent": 30},
        {"framework": ModelFramework.PYTORCH, "requirements": ("torch",)},
        {"serving_config": {"runtime": "kserve-mlserver", "deployment_mode": "raw"}, "max_replicas": 3},
        {
            "transformer": {
                "image_name": "team/transformer:1",
                "args": ["--feature", "a"],
                "volumes": [
                    {"name": "store", "type": "ConfigMap", "path": "/wine"},
                    {"name": "access", "type": "Secret", "path": "/access"},
                ],
                "env_from": {"name": "access", "type": "Secret"},
            }
        },
    ],
    ids=["plain", "v1", "canary", "own server", "raw", "transformer"],
)
def test_the_dry_run_is_accepted(
    target: KubernetesTarget, kubeconfig: Path, namespace: Cluster, changes: dict[str, Any]
) -> None:
    shown = target.render(endpoint(**changes))
    assert "kaptain-admin-secret" not in shown
    said = kubectl(kubeconfig, "create", "--dry-run=server", "-f", "-", stdin=shown)
    assert "inferenceservice.serving.kserve.io/dev-mnist created (server dry run)" in said

"""``kaptain.utils``, ``%kaptain clean`` and ``%kaptain doctor`` on a real cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import kaptain
import pytest

from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import NotFoundError, TargetError
from kaptain_magics.model import Workspace
from kaptain_magics.model.contract import console
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest
from kaptain_magics.script import capture
from kaptain_magics.targets.base import Check
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.pods import package_pruning
from kaptain_magics.targets.kubernetes.pods.package_bundles import folder_below
from tests.parts.cluster.rig import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.s3]
SCRIPT = """
from sklearn.dummy import DummyClassifier
clf = DummyClassifier().fit([[0], [1]], [0, 1])
"""


class Told(logging.Handler):
    """Keeps what is reported."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    def lines(self) -> list[str]:
        said, self._lines = self._lines, []
        return said


@pytest.fixture
def told() -> Iterator[Told]:
    handler, logger = Told(), console.logger()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_the_contracts_functions(kernel_namespace: Cluster, told: Told) -> None:
    workspace = Workspace()
    model = workspace.model("dev/keep")
    run = model.plan_training(TrainingRequest(script=capture(SCRIPT), capture=Capture(model="clf"))).start()
    assert run.wait(120) is RunState.SUCCEEDED, run.reason
    endpoint = model.plan_deployment().start()
    assert endpoint.wait(120) is RunState.SUCCEEDED, endpoint.reason
    told.lines()

    kaptain.utils.list_jobs()
    assert [line.split()[:2] for line in told.lines()] == [[f"job/{run.record.name}", "ended"]]
    kaptain.utils.list_inference_services()
    (line,) = told.lines()
    assert line.startswith("dev-keep  ready  model dev/keep  100 % to ")
    kaptain.utils.list_experiments()
    assert told.lines() == ["nothing found"]
    kaptain.utils.diagnose()
    assert any("deployment/dev-keep" in line for line in told.lines())
    kaptain.utils.clean(force=True)
    assert not any("deployment" in line for line in told.lines())  # it is served, and no leftover
    kaptain.utils.delete_inference_services()
    assert told.lines() == ["nothing found"]

    with pytest.raises(TargetError, match="no job 'other'"):
        kaptain.utils.delete_job("other")
    with pytest.raises(NotFoundError, match="other"):
        kaptain.utils.delete_inference_service("other")
    kaptain.utils.delete_inference_service("dev-keep")
    assert told.lines()[-1].startswith("dev-keep  ready")
    eventually(lambda: not kernel_namespace.list("Deployment"))
    again = model.plan_deployment(DeploymentRequest(replace=True)).start()
    assert again.wait(120) is RunState.SUCCEEDED, again.reason
    kaptain.utils.clean_all(force=True)
    eventually(lambda: kaptain.utils.list_all_resources() or told.lines() == ["nothing found"])


def test_what_a_killed_job_carried_is_removed_from_the_store(kernel_namespace: Cluster) -> None:
    workspace = Workspace()
    run = (
        workspace.model("dev/keep")
        .plan_training(TrainingRequest(script=capture(SCRIPT), capture=Capture(model="clf")))
        .start()
    )
    assert run.wait(120) is RunState.SUCCEEDED, run.reason
    store, uri = workspace.objects(), f"{run.artifact_uri}.work.tar.gz"
    store.write(uri, b"left by a supervisor that was killed")
    assert any(uri in line for line in workspace.clean())
    workspace.clean(force=True)
    assert not store.exists(uri)
    assert store.exists(run.artifact_uri)


def test_packages_stay_while_an_endpoint_uses_them(kernel_namespace: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace()
    model = workspace.model("dev/keep")
    run = model.plan_training(TrainingRequest(script=capture(SCRIPT), capture=Capture(model="clf"))).start()
    assert run.wait(120) is RunState.SUCCEEDED, run.reason
    endpoint = model.plan_deployment().start()
    assert endpoint.wait(120) is RunState.SUCCEEDED, endpoint.reason
    store, folder = workspace.objects(), folder_below(workspace.settings.models_uri)
    unused, used = f"{folder}/serving-cp27-m68k-glibc-0.tar.gz", {entry.path for entry in store.list(folder)}
    assert any(path.startswith("used-by/") for path in used)
    store.write(unused, b"packages")
    workspace.clean(force=True)
    assert store.exists(unused)  # it is young
    monkeypatch.setattr(package_pruning, "UNUSED", -1.0)
    monkeypatch.setattr(package_pruning, "_SETTLED", -1.0)
    assert any(unused in line for line in workspace.clean())
    workspace.clean(force=True)
    assert {entry.path for entry in store.list(folder)} == used
    workspace.endpoint("dev-keep").undeploy()
    eventually(lambda: not kernel_namespace.list("Secret", labels.EVERYTHING))
    workspace.clean(force=True)
    assert store.list(folder) == []


def test_a_quota_that_is_used_up_is_found_by_the_doctor(kernel_namespace: Cluster) -> None:
    spec = {"hard": {"pods": "0", "requests.cpu": "2"}}
    kernel_namespace.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": spec})
    eventually(lambda: kernel_namespace.list("ResourceQuota")[0].get("status", {}).get("hard"))
    (check,) = [check for check in Workspace().doctor() if check.name == "quota tight"]
    assert not check.ok
    assert "exhausted" in check.detail
    assert "--cpu" in check.hint


def test_the_doctor_asks_the_registry_of_the_base_image(
    kernel_namespace: Cluster, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(name: str) -> Check:
        monkeypatch.setenv("KAPTAIN_BASE_IMAGE", name)
        (check,) = [check for check in Workspace().doctor() if check.name == "base image"]
        return check

    monkeypatch.setenv("DOCKER_CONFIG", str(kubeconfig.parent / "docker-config"))
    assert "it is not there" in checked("127.0.0.1:5000/nobody/nothing:1").detail
    assert "cannot be asked" in checked("127.0.0.1:9/nobody/nothing:1").detail
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    refused = checked("127.0.0.1:5000/nobody/nothing:1")
    assert (refused.ok, bool(refused.hint)) == (False, True)

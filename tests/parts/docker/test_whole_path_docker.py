"""The whole path in containers, through the model: what ``--on docker`` does, kernel and supervisor included."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaptain_magics.config import Settings
from kaptain_magics.core.domains import Double
from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.model import TrainingRun, Workspace
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest, TuningRequest
from kaptain_magics.script import capture
from kaptain_magics.targets.base import ListensHere
from tests.waiting import until

pytestmark = pytest.mark.docker
SOURCE = """
import numpy as np
from sklearn.linear_model import LinearRegression
import kaptain

c = 2.0
X = np.arange(8.0).reshape(-1, 2)
kaptain.save_model(LinearRegression().fit(X, X.sum(axis=1) * c))
kaptain.log_metrics(accuracy=c)
print("trained with", c)
"""


@pytest.fixture
def workspace(home: Path, docker_host: str, docker_base_image: str) -> Iterator[Workspace]:
    import docker

    from kaptain_magics.targets.docker.container_settings import owner

    settings = {
        "target": "docker",
        "docker_host": docker_host,
        "base_image": docker_base_image,
        "cache": str(home / "c"),
    }
    yield Workspace(Settings.load(settings))
    client = docker.DockerClient(base_url=docker_host)
    mine: dict[str, Any] = {"label": f"kaptain.owner={owner(home)}"}
    for found in client.containers.list(all=True, filters=mine):
        found.remove(force=True)
    for volume in client.volumes.list(filters=mine):
        volume.remove(force=True)
    client.close()


def test_train_tune_and_deploy_in_containers(workspace: Workspace, docker_base_image: str) -> None:
    model = workspace.model("dev/docker")
    image = ImageSpec(base_image=docker_base_image)
    run = model.plan_training(TrainingRequest(script=capture(SOURCE), parameters={"c": 1.5}, image=image)).start()
    assert run.wait(120) is RunState.SUCCEEDED, (run.reason, run.log())
    assert "trained with 1.5" in run.log()
    assert run.metrics["accuracy"].latest == 1.5
    study = model.plan_tuning(
        TuningRequest(job=TrainingRequest(image=image), domains={"c": Double(2, 3)}, objectives=["accuracy"], trials=3)
    ).start()
    assert study.wait(180) is RunState.SUCCEEDED, study.reason
    best = float(study.best_parameters["c"])
    assert study.best is not None
    assert best == max(trial.metrics["accuracy"].latest for trial in study.trials)
    deployment = model.plan_deployment(DeploymentRequest(image=image)).start()
    assert deployment.wait(180) is RunState.SUCCEEDED, (deployment.reason, deployment.hint)
    np.testing.assert_allclose(deployment.endpoint.predict(np.array([[1.0, 2.0]])), [3.0 * best])
    deployment.endpoint.undeploy()
    workspace.clean(force=True)
    assert [line for line in workspace.clean() if "container" in line] == []


def endless(workspace: Workspace, base_image: str) -> TrainingRun:
    """Start a run that never ends and wait until its script runs."""
    script = capture("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    request = TrainingRequest(script=script, image=ImageSpec(base_image=base_image))
    run = workspace.model("dev/docker").plan_training(request).start()
    until(lambda: "ready" in run.log())
    return run


def test_a_run_whose_supervisor_was_killed_is_found_and_cleaned(workspace: Workspace, docker_base_image: str) -> None:
    run = endless(workspace, docker_base_image)
    folder = Path(workspace.settings.home) / "runs" / run.run_id
    os.kill(int((folder / "supervisor.pid").read_text()), signal.SIGKILL)
    assert run.wait(60) is RunState.FAILED
    assert "supervised" in run.reason
    found = [line for line in workspace.clean() if line.startswith("container")]
    assert len(found) == 1
    workspace.clean(force=True)
    assert [line for line in workspace.clean() if line.startswith("container")] == []


def test_stopping_a_run_ends_its_container(workspace: Workspace, docker_base_image: str, docker_host: str) -> None:
    import docker

    run = endless(workspace, docker_base_image)
    run.stop()
    assert run.wait(60) is RunState.STOPPED
    client = docker.DockerClient(base_url=docker_host)
    left = client.containers.list(all=True, filters={"label": f"kaptain.run={run.run_id}"})
    client.close()
    assert left == []


def test_clean_finds_an_endpoint_whose_deployment_was_killed_before_it_was_listed(
    workspace: Workspace, docker_base_image: str
) -> None:
    model, image = workspace.model("dev/docker"), ImageSpec(base_image=docker_base_image)
    run = model.plan_training(TrainingRequest(script=capture(SOURCE), image=image)).start()
    assert run.wait(120) is RunState.SUCCEEDED, (run.reason, run.log())
    deployment = model.plan_deployment(DeploymentRequest(image=image)).start()
    assert deployment.wait(180) is RunState.SUCCEEDED, (deployment.reason, deployment.hint)
    workspace.registry.remove_endpoint("dev-docker")
    line = "endpoint dev-docker, whose deployment was killed"
    assert line in workspace.clean()
    assert line in workspace.clean(force=True)
    target = workspace.target()
    assert isinstance(target, ListensHere)
    assert target.stored_endpoints() == []

"""The whole path with the models in a real S3 server, with the tutorial's keys and no secret in the state folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kaptain_magics.config import Settings
from kaptain_magics.core.domains import Double
from kaptain_magics.core.states import RunState
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture
from tests.seaweed import SECRET_KEY, SeaweedFS

SOURCE = """
import numpy as np
from sklearn.linear_model import LinearRegression
import kaptain

c = 2.0
X = np.arange(8.0).reshape(-1, 2)
kaptain.save_model(LinearRegression().fit(X, X.sum(axis=1) * c))
kaptain.log_metrics(accuracy=c)
"""


@pytest.mark.s3
def test_train_tune_and_deploy_from_s3(home: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in seaweed.env.items():
        if not name.startswith("S3_ENDPOINT"):
            monkeypatch.setenv(name, value)
    base = f"s3://whole-path/models-{home.parent.name}"
    workspace = Workspace(
        Settings.load({"storage_uri": base, "s3_endpoint": seaweed.endpoint, "cache": str(home / "c")})
    )
    model = workspace.model("dev/s3")
    run = model.plan_training(TrainingRequest(script=capture(SOURCE))).start()
    assert run.wait(120) is RunState.SUCCEEDED, (run.reason, run.log())
    assert run.artifact_uri.startswith(f"{base}/dev/s3/trained/")
    study = model.plan_tuning(TuningRequest(domains={"c": Double(2.5, 3)}, objectives=["accuracy"], trials=3)).start()
    assert study.wait(120) is RunState.SUCCEEDED, study.reason
    stages = {entry.path.partition("/")[0] for entry in workspace.objects().list(f"{base}/dev/s3")}
    assert stages == {"trained", "tuned"}
    deployment = model.plan_deployment().start()
    assert deployment.wait(120) is RunState.SUCCEEDED, (deployment.reason, deployment.hint)
    try:
        expected = 3.0 * float(study.best_parameters["c"])
        np.testing.assert_allclose(deployment.endpoint.predict(np.array([[1.0, 2.0]])), [expected])
    finally:
        deployment.endpoint.undeploy()
    for path in home.rglob("*"):
        if path.is_file() and path.suffix != ".sock":
            assert SECRET_KEY.encode() not in path.read_bytes(), path


@pytest.mark.s3
def test_a_store_with_the_wrong_credentials_ends_in_one_clear_line(
    home: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**seaweed.env, "AWS_SECRET_ACCESS_KEY": "not-the-secret"}.items():
        monkeypatch.setenv(name, value)
    workspace = Workspace(Settings.load({"storage_uri": "s3://whole-path/models"}))
    run = workspace.model("dev/s3").plan_training(TrainingRequest(script=capture(SOURCE))).start()
    assert run.wait(120) is RunState.FAILED
    assert "credentials" in run.reason.lower() or "access" in run.reason.lower()
    assert run.hint
    assert "not-the-secret" not in run.reason + run.hint + run.log()
    (storage,) = [check for check in workspace.doctor() if check.name == "storage"]
    assert not storage.ok
    assert storage.hint

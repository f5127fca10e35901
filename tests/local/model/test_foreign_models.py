"""A model of another's that can run code when it is loaded is deployed only with ``--trust``."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, ServingError
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest
from kaptain_magics.script import capture
from kaptain_magics.storage import open_store
from tests.shell import Notebook


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1",))


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace()


def saved(folder: Path, framework: str, *names: str) -> str:
    """Store files as a model from elsewhere and return its URI."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in names:
        (source / name).write_bytes(pickle.dumps(Bomb()))
    open_store(folder.as_uri(), {}).put(source, (folder / "given").as_uri(), framework)
    return (folder / "given").as_uri()


@pytest.mark.parametrize(
    ("framework", "names"),
    [
        ("sklearn", ("model.joblib",)),
        ("sklearn", ("model.json", "model.PKL")),
        ("python", ("model.py",)),
        ("mlflow", ("MLmodel",)),
        ("pytorch", ("model.pt",)),
        ("onnx", ("model.onnx", "helper.py")),
    ],
)
def test_what_can_run_code_wants_trust(
    workspace: Workspace, tmp_path: Path, framework: str, names: tuple[str, ...]
) -> None:
    model = workspace.model("dev/foreign")
    uri = saved(tmp_path / "other", framework, *names)
    with pytest.raises(ServingError, match="can run code") as refused:
        model.plan_deployment(DeploymentRequest(model_uri=uri))
    assert "--trust" in refused.value.hint
    assert "trust=True" in refused.value.hint
    assert model.plan_deployment(DeploymentRequest(model_uri=uri, trust=True)).spec.artifact_uri == uri  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("framework", "name"), [("onnx", "model.onnx"), ("xgboost", "model.ubj"), ("lightgbm", "model.txt")]
)
def test_what_is_data_does_not(workspace: Workspace, tmp_path: Path, framework: str, name: str) -> None:
    uri = saved(tmp_path / "other", framework, name)
    assert workspace.model("dev/data").plan_deployment(DeploymentRequest(model_uri=uri)).spec.artifact_uri == uri  # type: ignore[union-attr]


def test_a_revision_of_ones_own_does_not(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_STORAGE_URI", (tmp_path / "elsewhere").as_uri())
    mine = Workspace()
    source = "from sklearn.dummy import DummyClassifier\nclf = DummyClassifier().fit([[0], [1]], [0, 1])\n"
    run = (
        mine.model("dev/mine")
        .plan_training(TrainingRequest(script=capture(source), capture=Capture(model="clf")))
        .start()
    )
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    (revision,) = mine.registry.model("dev/mine").revisions
    for model_id in ("dev/mine", "dev/other"):
        assert (
            mine.model(model_id).plan_deployment(DeploymentRequest(model_uri=revision.uri)).spec.artifact_uri
            == revision.uri
        )  # type: ignore[union-attr]


def test_the_magic_says_it(notebook: Notebook, tmp_path: Path) -> None:
    uri = saved(tmp_path / "other", "sklearn", "model.joblib")
    error = notebook.error(f"%kaptain_deploy dev/foreign --model-uri {uri}")
    assert isinstance(error, KaptainError)
    assert "model.joblib can run code" in error.message
    notebook.run(f"%kaptain_deploy dev/foreign --model-uri {uri} --trust --dry-run")

"""``%kaptain_deploy`` and the verbs of endpoints, with a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kaptain_magics.errors import NotFoundError, ServingError
from kaptain_magics.model import Endpoint, Workspace
from tests.shell import Notebook

TRAIN = """%%kaptain_train dev/served --model clf kind=most_frequent
from sklearn.dummy import DummyClassifier
kind = "stratified"
clf = DummyClassifier(strategy=kind).fit([[0, 0], [1, 1], [1, 0]], [3, 7, 7])
"""


@pytest.fixture
def served(notebook: Notebook) -> Iterator[Notebook]:
    """A notebook with a trained model; whatever it deploys is taken down again."""
    notebook.run(TRAIN)
    yield notebook
    workspace = Workspace()
    for status in workspace.endpoints():
        workspace.endpoint(status.name).undeploy()


def test_an_endpoint_from_its_deployment_to_its_end(served: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = served.run("%kaptain_deploy dev/served --cpu 1 --workers 1 --env SHADE=dark --into door")
    assert isinstance(endpoint, Endpoint)
    assert served.variables["door"] is endpoint
    assert endpoint.url in capsys.readouterr().out
    served.run("rows = [[0, 0], [1, 1]]")
    answer = served.run("%kaptain predict dev/served rows + [[2, 2]]")
    assert isinstance(answer, np.ndarray)
    assert answer.tolist() == [7, 7, 7]
    assert served.run("%kaptain predict dev-served --proba --timeout 20s rows").shape == (2, 2)
    assert "--fetch kind" in str(served.error("%kaptain predict dev-served kind"))
    error = served.error("%kaptain predict dev/served [[1, 2, 3]]")
    assert error.message  # type: ignore[attr-defined]

    error = served.error("%kaptain_deploy dev/served")
    assert isinstance(error, ServingError)
    assert "--replace" in str(error)
    served.run("%kaptain_deploy dev/served --replace")  # what the line does not say stays as it was
    spec = Workspace().registry.endpoint("dev/served").spec
    assert (spec.resources.cpu_limit, spec.env) == ("1", {"SHADE": "dark"})

    served.run("%kaptain_deploy dev/served --canary 30")
    assert sorted(endpoint.status().traffic.values()) == [30, 70]
    served.run("%kaptain canary dev/served 50%")
    assert sorted(endpoint.status().traffic.values()) == [50, 50]
    served.run("%kaptain promote dev/served")
    assert list(endpoint.status().traffic.values()) == [100]
    assert "no canary" in str(served.error("%kaptain rollback dev/served"))
    capsys.readouterr()
    served.run("%kaptain endpoints")
    assert endpoint.url in capsys.readouterr().out
    served.run("%kaptain undeploy dev/served")
    assert isinstance(served.error("%kaptain undeploy dev/served"), NotFoundError)
    assert Workspace().endpoints() == []


def test_a_dry_run_and_a_detached_deployment(served: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    assert served.run("%kaptain_deploy dev/served --dry-run --port 0") is None
    assert "dev-served" in capsys.readouterr().out
    assert Workspace().endpoints() == []
    deployment = served.run("%kaptain_deploy dev/served --detach")
    deployment.wait(60)
    assert served.run("%kaptain predict dev/served [[1, 1]]").tolist() == [7]


def test_a_variable_of_the_training_cell_is_to_be_fetched(served: Notebook) -> None:
    assert str(served.error("%kaptain predict dev/served kind[:5]")) == (
        "kind[:5]: kind is a variable of the training cell, which ran in its own process: "
        "bring it here with --fetch kind"
    )
    assert "name 'other' is not defined: write a Python" in str(served.error("%kaptain predict dev/served other"))
    assert "bring it here" not in str(served.error("%kaptain predict dev/unknown kind"))
    served.run(TRAIN.replace("--model clf", "--model clf --fetch kind"))
    assert "bring it here" not in str(served.error("%kaptain predict dev/served kind.missing"))
    Path("train.py").write_text("data = 1\n")
    served.run("%kaptain_train dev/served --file train.py")
    assert "data is a variable of the training script train.py" in str(served.error("%kaptain predict dev/served data"))

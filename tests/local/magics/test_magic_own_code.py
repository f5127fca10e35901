"""Models with code of the cell: trained, fetched, served and asked; and models that no server can load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kaptain_magics.core.states import RunState
from kaptain_magics.errors import ModelError
from kaptain_magics.model import Workspace
from tests.shell import Notebook

Capture = pytest.CaptureFixture[str]

OWN = """%%kaptain_train dev/own --model pipe --metric accuracy=score --fetch X,pipe
import numpy as np
import steps
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

SCALE = 2.0

class RatioAdder(TransformerMixin, BaseEstimator):
    def __init__(self, by=1.0):
        self.by = by

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.column_stack([X, X[:, 0] / X[:, 1] * self.by])

X, y = load_iris(return_X_y=True)
scale = FunctionTransformer(lambda rows: steps.shift(rows * SCALE))
pipe = make_pipeline(RatioAdder(2.0), scale, LogisticRegression(max_iter=1000)).fit(X, y)
score = pipe.score(X, y)
"""
KEPT = """%%kaptain_train dev/own --model bundle
bundle = {"columns": ["a", "b"], "add": lambda row: row + 1}
"""


@pytest.fixture
def cleared(notebook: Notebook) -> Iterator[Notebook]:
    """A notebook whose endpoints are taken down again."""
    yield notebook
    workspace = Workspace()
    for status in workspace.endpoints():
        workspace.endpoint(status.name).undeploy()


def test_code_of_the_cell_is_trained_fetched_and_served(
    cleared: Notebook, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))  # as a notebook's own folder is
    Path("steps.py").write_text("from shifts import BY\n\ndef shift(rows):\n    return rows + BY\n")
    Path("shifts.py").write_text("BY = 1.0\n")
    run = cleared.run(OWN.replace("--model", "--files steps.py,shifts.py --model"))
    said = capsys.readouterr().out
    assert run.state is RunState.SUCCEEDED
    assert "code of the script (a lambda in line 23, class RatioAdder), with the variables SCALE" in said
    assert "less safe than a module of its own" in said
    cleared.run("%kaptain_deploy dev/own")
    rows = cleared.variables["X"]
    answer = cleared.run("%kaptain predict dev/own X")
    assert np.array_equal(answer, cleared.variables["pipe"].predict(rows))
    assert np.array_equal(Workspace().model("dev/own").load().predict(rows), answer)


def test_a_model_that_cannot_be_served_is_kept_and_its_deployment_says_why(cleared: Notebook, capsys: Capture) -> None:
    kept = cleared.run(KEPT)
    assert kept.state is RunState.SUCCEEDED
    assert kept.artifact_uri
    assert "the model is kept (model.pkl), but no server can load it: a builtins.dict" in capsys.readouterr().out
    error = cleared.error("%kaptain_deploy dev/own")
    assert isinstance(error, ModelError)
    assert "was kept, but cannot be served: a builtins.dict cannot be saved" in str(error)
    assert "with a predict method" in error.hint
    assert "%kaptain load dev/own brings it back" in error.hint
    assert Workspace().model("dev/own").load()["add"](1) == 2
    cleared.run(
        "%%kaptain_train dev/own --model m\nfrom sklearn.dummy import DummyClassifier\n"
        "m = DummyClassifier().fit([[0]], [1])\n"
    )
    cleared.run(KEPT)
    error = cleared.error("%kaptain_deploy dev/own")
    assert isinstance(error, ModelError)
    servable = next(r for r in Workspace().registry.model("dev/own").revisions if r.format == "joblib")
    assert f"--revision {servable.revision[:8]}" in error.hint

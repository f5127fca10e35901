"""The notebook of all frameworks: each is trained in a cell, tuned, deployed and asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.local.notebooks.test_our_notebooks import execute
from tests.parts.frameworks.test_frameworks import NEEDS, need


@pytest.mark.frameworks
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # what Jupyter's own libraries say is not ours
def test_every_framework_in_a_notebook(home: Path, tmp_path: Path) -> None:
    for framework in NEEDS:
        need(framework)
    text = execute("frameworks.ipynb", tmp_path)
    for name in ("trees", "leaves", "converted", "net", "dense", "flow", "nearest"):
        assert f"train dev/{name} on local: succeeded" in text
        assert f"tune dev/{name} on local: succeeded" in text
        assert f"deploy dev/{name} on local: succeeded" in text
    assert text.count("array([0, 0, 1, 2])") == 3  # XGBoost, ONNX, MLflow
    assert text.count("array(['setosa', 'setosa', 'versicolor', 'virginica']") == 2  # LightGBM, plain Python
    assert text.count("dtype=float32)") == 4  # the question, probabilities, PyTorch, Keras

"""The project's notebooks run from the first cell to the last, as a person would run them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


def execute(name: str, folder: Path, *beside: str) -> str:
    """Run a notebook in a folder of its own, with the files beside it, and return the text of all its outputs."""
    for file in (name, *beside):
        shutil.copy2(NOTEBOOKS / file, folder)
    notebook = nbformat.read(folder / name, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            parts.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(parts)


@pytest.mark.filterwarnings("ignore")  # what Jupyter's own libraries say is not ours
def test_quickstart(home: Path, tmp_path: Path) -> None:
    text = execute("quickstart.ipynb", tmp_path)
    assert "accuracy  0.96885" in text
    assert "Progress: 100%" in text
    assert "array([7, 8, 9, 0, 1])" in text
    assert "'data': [7]" in text
    assert "dev-digits is taken down" in text


@pytest.mark.filterwarnings("ignore")
def test_the_tutorials_cells_run_unchanged(home: Path, tmp_path: Path) -> None:
    text = execute("tutorial.ipynb", tmp_path)
    assert "Model accuracy: 0.9688542825361512" in text
    assert "12/12 [time: " in text
    assert "Model tuning completed, final status: Succeeded" in text
    assert "Model dev/mnist deployed successfully. Cluster URL: http://127.0.0.1:" in text
    assert '"model_name": "dev-mnist"' in text
    assert re.search(r'"data": \[\s+7\s+\]', text)


@pytest.mark.filterwarnings("ignore")
def test_a_project_of_ones_own(home: Path, tmp_path: Path) -> None:
    text = execute("own-project.ipynb", tmp_path, "helper.py", "flats.csv")
    assert re.search(r"R² on the held-out flats: 0\.9\d\d\n", text)
    assert "displays/1.png" in text  # the cell's plot is kept with its run
    assert "saved `model` (Pipeline); r2 0.9" in text
    assert "Set in the script: params.n_estimators in line" in text
    assert "8/8 [time: " in text
    assert re.search(r"state +r2 \(maximize\) +params.learning_rate +params.max_depth +params.n_estimators", text)
    rents = re.search(r"array\(\[(.+), (.+), (.+)\]\)", text)
    assert rents is not None
    assert [float(rent) for rent in rents.groups()] == pytest.approx([1830, 2220, 1120], rel=0.15)
    assert "has revision" in text
    assert "flats is taken down" in text
    locked = (tmp_path / "flats-model" / "requirements.txt").read_text("utf-8")
    assert {"pandas", "scikit-learn", "cloudpickle"} <= {line.partition("==")[0] for line in locked.splitlines()}

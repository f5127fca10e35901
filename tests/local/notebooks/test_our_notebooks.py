"""The project's notebooks run from the first cell to the last, as a person would run them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


def execute(name: str, folder: Path) -> str:
    """Run a notebook in a folder of its own and return the text of all its outputs."""
    shutil.copy2(NOTEBOOKS / name, folder)
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

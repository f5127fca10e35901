"""Every code block of the README and of the notebooks' Markdown is executed, in order, as its reader would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient
from sklearn.datasets import load_iris

from kaptain_magics.config import Settings
from kaptain_magics.magics.options import DEPLOY, TRAIN, TUNE
from kaptain_magics.magics.verbs import VERBS
from kaptain_magics.model import Workspace

ROOT = Path(__file__).parents[3]
ELSEWHERE = {
    "quickstart": ".ci/wheel runs it in the unpacked source distribution",
    "test": ".ci/run begins with it",
    "install": ".ci/wheel runs it in a new environment",
    "command": "test_the_readmes_command_lines_work, below",
}
"""Blocks of shell: their markers, and what executes them exactly as they stand."""


class Block(NamedTuple):
    """A fenced block: its language, its text and the marker (an HTML comment) above it."""

    language: str
    text: str
    marker: str


def blocks(markdown: str) -> list[Block]:
    found = re.findall(r"(?:^<!-- (\w+) -->\n)?^```(\w*)\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE)
    assert len(found) * 2 == markdown.count("```"), "a block that this test does not understand"
    return [Block(language, text, marker) for marker, language, text in found]


def markdown_of(notebook: Path) -> str:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")


README = blocks((ROOT / "README.md").read_text("utf-8"))
NOTEBOOKS = {path.name: markdown_of(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def in_a_kernel(cells: list[str], folder: Path) -> list[str]:
    """Execute cells in a real kernel and return the text of each one's outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    texts = []
    for cell in notebook.cells:
        outputs: list[Any] = cell.get("outputs", [])
        texts.append("\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs))
    return texts


def test_every_block_is_of_a_kind_that_is_executed_here() -> None:
    assert {block.language for block in README} == {"python", "bash", "toml"}
    assert [block.marker for block in README if block.language == "bash"] == list(ELSEWHERE)
    run, wheel = (ROOT / ".ci/run").read_text("utf-8"), (ROOT / ".ci/wheel").read_text("utf-8")
    assert "<!-- test -->" in run
    assert ".ci/wheel" in run
    assert "readme_block quickstart" in wheel
    assert "readme_block install" in wheel
    for name, text in NOTEBOOKS.items():
        assert blocks(text) == [], f"{name} has a block in its Markdown: execute it here"


@pytest.mark.filterwarnings("ignore")  # what Jupyter's own libraries say is not ours
def test_the_readmes_python_works_from_the_first_line_to_the_last(home: Path, tmp_path: Path) -> None:
    load, train, serve, ways, api = (block.text for block in README if block.language == "python")
    # The block of ways to save and report is the end of a script: it stands below the script of the first example.
    script = train.partition("\n")[2]
    ways = f"%%kaptain_train dev/ways\n{script}\nimport joblib\njoblib.dump(clf, 'model.joblib')\nepoch = 1\n{ways}"
    # The tutorial's training file sleeps for ten seconds in each of its trials; here it does not.
    tutorial = json.loads((ROOT / "notebooks/tutorial.ipynb").read_text("utf-8"))
    cell = next(c["source"] for c in tutorial["cells"] if "".join(c["source"]).startswith("%%writefile training.py"))
    file = "".join(cell).replace("time.sleep(10)", "time.sleep(0)")
    try:
        outputs = in_a_kernel([load, train, serve, ways, file, api], tmp_path)
    finally:
        workspace = Workspace()
        for status in workspace.endpoints():
            workspace.endpoint(status.name).undeploy()
    assert "accuracy  0.96885" in outputs[1]
    assert "array([8, 8, 4, 9, 0])" in outputs[2]
    assert "accuracy" in outputs[3]
    assert "array([8, 8, 4, 9, 0])" in outputs[5]


TRAINED = """
from sklearn.datasets import load_iris
from sklearn.svm import SVC
gamma = 0.1
X, y = load_iris(return_X_y=True, as_frame=True)
clf = SVC(gamma=gamma).fit(X, y)
score = clf.score(X, y)
"""


def test_the_readmes_command_lines_work(home: Path, tmp_path: Path) -> None:
    (block,) = (block.text for block in README if block.marker == "command")
    script = tmp_path / "bin" / "kaptain-magics"  # what an installer makes of the entry point
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kaptain_magics "$@"\n')
    script.chmod(0o755)
    (tmp_path / "train.py").write_text(TRAINED)
    (tmp_path / "rows.csv").write_text(load_iris(as_frame=True).data.iloc[:3].to_csv(index=False))
    environment = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}
    command = ["bash", "-ec", block]
    try:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
    finally:
        workspace = Workspace()
        for status in workspace.endpoints():
            workspace.endpoint(status.name).undeploy()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[0, 0, 0]"


def test_the_settings_of_the_readme_are_settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [tomllib.loads(block.text) for block in README if block.language == "toml"]
    nbqa, settings = tables
    for magics in nbqa["tool"]["nbqa"]["process_cells"].values():
        assert set(magics) == {"kaptain_train", "kaptain_tune"}
    (tmp_path / "kaptain.toml").write_text(next(b.text for b in README if b.text.startswith("[kaptain]")))
    monkeypatch.chdir(tmp_path)
    loaded = Settings.load().as_texts()
    expected = {**settings["kaptain"], "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    assert {name: loaded[name] for name in expected} == expected


def test_what_the_readme_and_the_notebooks_name_exists() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    code = "\n".join(b.text for b in README if b.marker == "" and b.language == "python")
    inline = "\n".join(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)))
    notebooks = "\n".join(line for part in NOTEBOOKS.values() for line in re.findall(r"`([^`\n]+)`", part))
    every = f"{code}\n{inline}\n{notebooks}"
    commands = [TRAIN, TUNE, DEPLOY, *VERBS.values()]
    known = {f"--{option.name}" for command in commands for option in command.options} | {"--help"}
    elsewhere = {"--gamma", "--name"}  # options of scripts
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", every))
    assert named - elsewhere <= known
    verbs = {word for words in re.findall(r"%kaptain ([\w|\\]+)", every) for word in words.replace("\\", "").split("|")}
    assert verbs <= set(VERBS)
    assert verbs >= set(VERBS), "a verb that the README does not name"
    variables = set(re.findall(r"\bKAPTAIN_[A-Z_0-9]+", every))
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "kaptain_magics").rglob("*.py"))
    settings = {f"KAPTAIN_{name.upper()}" for name in Settings.names()}
    assert {name for name in variables - settings if name not in sources} == set()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r"`(\w+)`", text.partition("the extras that you need:")[2].partition(".\n")[0])) <= set(
        extras
    )
    for target in re.findall(r"\]\(([^)#:]+)\)", text + "".join(NOTEBOOKS.values())):
        assert (ROOT / target).exists() or (ROOT / "notebooks" / target).exists(), target

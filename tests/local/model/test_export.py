"""An exported folder serves its model without the package that wrote it, and refuses files that were changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaptain_magics.errors import StateError
from kaptain_magics.model import Workspace
from kaptain_magics.model.exporting import export
from tests.shell import Notebook

TRAIN = """%%kaptain_train dev/out --model clf --metric accuracy=score
from sklearn.linear_model import LogisticRegression
clf = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
score = 1.0
"""


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the folder's server where nothing else of this package is on the path; yields it and its address."""
    command = [sys.executable, str(folder / "serve.py"), "--port", "0"]
    process = subprocess.Popen(command, cwd=folder.parent, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = ""
        while not address and (line := process.stderr.readline()):
            match = re.search(r"listening on (\S+)", line)
            address = match[1] if match else ""
        yield process, f"http://{address}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(url: str, body: bytes) -> dict[str, object]:
    """Send a request as soon as the model is loaded."""
    until = time.monotonic() + 120
    while True:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def test_a_folder_serves_its_model(notebook: Notebook, home: Path, tmp_path: Path) -> None:
    notebook.run(TRAIN)
    folder = tmp_path / "out"
    notebook.run(f"%kaptain export dev/out {folder}")
    with pytest.raises(StateError, match="is there already"):
        export(Workspace(), "dev/out", folder)
    locked = (folder / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in locked} >= {"numpy", "scikit-learn", "joblib", "msgspec", "httptools"}
    assert all("==" in line for line in locked)
    curl = next(line for line in (folder / "README.md").read_text().splitlines() if line.startswith("curl"))
    body = curl.rpartition("-d '")[2].rstrip("'")
    with served(folder) as (_, address):
        answer = ask(f"{address}/v2/models/dev-out/infer", body.encode())
    (output,) = answer["outputs"]  # type: ignore[misc]
    assert output["data"] in ([0], [1])  # type: ignore[call-overload]


def test_a_changed_file_is_not_loaded(notebook: Notebook, home: Path, tmp_path: Path) -> None:
    notebook.run(TRAIN)
    folder = export(Workspace(), "dev/out", tmp_path / "out").folder
    with open(folder / "model" / "model.joblib", "ab") as file:
        file.write(b"x")
    with served(folder) as (process, _):
        assert process.wait(timeout=120) == 1


def test_an_export_is_replaced_and_nothing_else(notebook: Notebook, home: Path, tmp_path: Path) -> None:
    notebook.run(TRAIN)
    folder = tmp_path / "out"
    export(Workspace(), "dev/out", folder)
    (folder / "stale").touch()
    export(Workspace(), "dev/out", folder, replace=True)
    assert not (folder / "stale").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    with pytest.raises(StateError, match="is there already"):
        export(Workspace(), "dev/out", mine, replace=True)
    assert (mine / "thesis.tex").exists()


def test_a_model_of_frames_needs_pandas(
    notebook: Notebook, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frames.py").write_text("import pandas as pd\n\nX = pd.DataFrame({'a': [0.0, 1.0, 2.0, 3.0]})\n")
    monkeypatch.chdir(tmp_path)
    notebook.run(TRAIN.replace("clf =", "from frames import X\nclf =").replace("[[0.0], [1.0], [2.0], [3.0]]", "X"))
    folder = export(Workspace(), "dev/out", tmp_path / "out").folder
    locked = (folder / "requirements.txt").read_text().splitlines()
    assert "pandas" in {line.partition("==")[0] for line in locked}


def test_packages_that_only_helpers_import_are_locked(
    notebook: Notebook, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "steps.py").write_text(
        "import psutil\nfrom sklearn.linear_model import LogisticRegression\n\n"
        "class Own(LogisticRegression):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    notebook.run(TRAIN.replace("from sklearn.linear_model", "from steps").replace("LogisticRegression", "Own"))
    folder = export(Workspace(), "dev/out", tmp_path / "out").folder
    locked = (folder / "requirements.txt").read_text().splitlines()
    assert {"psutil", "scikit-learn"} <= {line.partition("==")[0] for line in locked}

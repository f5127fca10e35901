"""A cell that fits on a frame, its endpoint asked with the frame, and its lines pasted into a shell and a Python."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kaptain_magics.model import Workspace
from tests.shell import Notebook

Capture = pytest.CaptureFixture[str]

CELL = """%%kaptain_train dev/frame --model model --fetch frame,expected
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

frame = pd.DataFrame({
    "given name": ["Anna O'Neill", "Béla", "Cleo"] * 20,
    "deck": pd.Categorical(["A", None, "B"] * 20),
    "age": [1.5, 20.0, None] * 20,
    "seen": pd.to_datetime(["2024-01-01", "2024-05-05", None] * 20),
})
used = frame[["deck", "age"]]
target = ["yes", "no", "no"] * 20
model = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype", min_samples_leaf=2)
model.fit(used, target)
frame = used
expected = model.predict_proba(used)
"""


@pytest.fixture
def framed(notebook: Notebook) -> Iterator[Notebook]:
    notebook.run(CELL)
    yield notebook
    workspace = Workspace()
    for status in workspace.endpoints():
        workspace.endpoint(status.name).undeploy()


def pasted(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_frames_and_pasted_lines(framed: Notebook, home: Path, capsys: Capture) -> None:
    for options in ("", "--protocol v1", "--host 0.0.0.0", "--host 0.0.0.0 --protocol v1"):
        capsys.readouterr()
        door = framed.run(f"%kaptain_deploy dev/frame {options} --into door")
        shown = capsys.readouterr().out
        lines = [re.search(r"try it +(curl .*)", shown)[1], door.curl()]  # type: ignore[index]
        answers = [json.loads(pasted(["bash", "-c", line])) for line in lines]
        answers.append(eval(pasted([sys.executable, "-c", door.snippet()])))
        for answer in answers:
            found = answer["predictions"] if "v1" in options else answer["outputs"][0]["data"]
            assert found == ["yes"], "the first row: the one with nothing missing"
        assert answers[0].keys() == answers[1].keys()
        assert not door.token or door.token not in shown + door.curl() + door.snippet()
        if not options:
            table = framed.run("%kaptain predict --proba dev/frame frame")
            pd.testing.assert_frame_equal(table, pd.DataFrame(framed.variables["expected"], columns=["no", "yes"]))
            assert door.classes == ["no", "yes"]
            decided = framed.run("%kaptain predict --output decision_function dev/frame frame")
            assert np.array_equal(decided > 0, framed.variables["expected"][:, 1] > 0.5)
            error = framed.error("%kaptain predict --output margin dev/frame frame")
            assert "decision_function" in str(error)
        framed.run("%kaptain undeploy dev/frame")
        assert not list((home / "endpoints").iterdir()), "the token and the example are gone with it"

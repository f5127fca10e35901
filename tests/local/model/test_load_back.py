"""A saved model comes back into the notebook as its library's object, after its files were compared."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kaptain_magics.errors import IntegrityError, ModelError
from kaptain_magics.model import Workspace
from tests.shell import Notebook

TRAIN = """%%kaptain_train dev/back --model clf --metric accuracy=score
from sklearn.dummy import DummyClassifier
class Own(DummyClassifier):
    pass
clf = Own(strategy="most_frequent").fit([[0], [1], [2]], [0, 1, 1])
score = 0.5
"""


def test_a_model_comes_back_and_changed_files_do_not(
    notebook: Notebook, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run(TRAIN)
    capsys.readouterr()
    model = notebook.run("clf = %kaptain load dev/back\nclf")
    assert "loaded trained revision" in capsys.readouterr().out
    assert list(model.predict([[5]])) == [1]
    workspace = Workspace()
    (revision,) = workspace.registry.model("dev/back").revisions
    notebook.run(f"%kaptain load dev/back {revision.revision[:8]} --into again")
    assert type(notebook.variables["again"]).__name__ == "Own"
    folder = Path(urlsplit(revision.uri).path)
    described = json.loads((folder / "kaptain-model.json").read_text())
    path = folder / described["model"]
    data = path.read_bytes()
    path.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")  # a pickle that runs a command
    with pytest.raises(IntegrityError, match="sha256 differs"):
        workspace.model("dev/back").load()
    assert not Path("ran").exists()
    path.write_bytes(data)
    with pytest.raises(ModelError):
        workspace.model("dev/back").load("ffff")
    assert list(workspace.model("dev/back").load().predict([[5]])) == [1]
    assert not list(folder.rglob("__pycache__"))

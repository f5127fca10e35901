"""What a script shows reaches the run: figures, tables, the last expression; of trials it is kept beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.domains import Double
from kaptain_magics.core.events import Displayed, FileWritten, Noted
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import NotFoundError
from kaptain_magics.model import Model, Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.runtime import written
from kaptain_magics.script import capture
from kaptain_magics.targets.output import OutputReader

PLOT = """
%matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
plt.plot(np.arange(3))
plt.show()
display({"a": 1})
figure, axes = plt.subplots()
axes.bar([1, 2], [3, 4])
plt.figure()  # nothing is drawn into this one
from IPython.display import HTML, display as show
show(HTML("<b>bold</b>"))
loss = 0.5
loss
"""


@pytest.fixture
def workspace(home: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as kernels have it
    return Workspace()


def train(model: Model, source: str) -> Any:
    run = model.plan_training(TrainingRequest(script=capture(source))).start()
    run.wait(120)
    return run


def shown(run: Any) -> list[tuple[str, str, str]]:
    return [(e.key, e.mime, e.text) for e in run.folder.events() if isinstance(e, Displayed)]


@pytest.mark.parametrize("warm", ["true", "false"])
def test_figures_tables_and_the_last_value(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, warm: str) -> None:
    monkeypatch.setenv("KAPTAIN_WARM", warm)
    workspace = Workspace()
    for _ in range(2):  # the second one forks from a parent that has imported matplotlib
        run = train(workspace.model("dev/plots"), PLOT)
        assert run.state is RunState.SUCCEEDED, run.log()
        assert shown(run) == [
            ("1", "image/png", "<Figure size 640x480 with 1 Axes>"),
            ("2", "text/plain", "{'a': 1}"),
            ("3", "text/html", "<IPython.core.display.HTML object>"),
            ("4", "text/plain", "0.5"),
            ("5", "image/png", "<Figure size 640x480 with 1 Axes>"),
        ]
        pictures = sorted((run.folder.path / "displays").iterdir())
        assert [p.name for p in pictures] == ["1.png", "3.html", "5.png"]
        assert pictures[0].read_bytes().startswith(b"\x89PNG")
        assert '"data"' not in run.folder.events_path.read_text()
        assert "Figure(" not in run.log()


def test_a_failed_script_shows_what_it_has_drawn(workspace: Workspace) -> None:
    run = train(workspace.model("dev/plots"), "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n1 / 0\n")
    assert run.state is RunState.FAILED
    assert run.reason == "the script raised ZeroDivisionError: division by zero"
    assert [mime for _, mime, _ in shown(run)] == ["image/png"]


def test_the_last_expression_of_a_file_and_a_hidden_one_are_not_shown(workspace: Workspace) -> None:
    assert shown(train(workspace.model("dev/plots"), "x = 1\nx;")) == []
    assert shown(train(workspace.model("dev/plots"), "x = 1\nx  # not; hidden")) == [("1", "text/plain", "1")]
    request = TrainingRequest(script=capture("x = 1\nx\n", "train.py"))
    run = workspace.model("dev/plots").plan_training(request).start()
    assert run.wait(60) is RunState.SUCCEEDED
    assert shown(run) == []
    failed = train(workspace.model("dev/plots"), "x = 1\n\nx / 0")
    assert 'cell.py", line 3, in <module>\n    x / 0' in failed.log()


def test_figures_of_trials_are_kept_beside_them(workspace: Workspace) -> None:
    source = "import matplotlib.pyplot as plt\nx = 1.0\nplt.plot([x])\nplt.show()\nprint(f'loss={x}')\nx\n"
    job = TrainingRequest(script=capture(source))
    request = TuningRequest(job=job, domains={"x": Double(0.0, 1.0)}, objectives=("loss",), trials=2)
    study = workspace.model("dev/plots").plan_tuning(request).start()
    assert study.wait(120) is RunState.SUCCEEDED, study.reason
    assert shown(study) == []
    for number in range(2):
        folder = study.folder.path / "trials" / str(number)
        assert [path.name for path in (folder / "displays").iterdir()] == ["1.png"]


WRITER = """
import os
os.makedirs("out", exist_ok=True)
with open("out/predictions.csv", "w") as file:
    file.write("x,y")
with open("notes.txt", "w") as file:
    file.write("hello")
os.symlink("/etc/hostname", "link")
1.5
"""


def test_files_that_a_script_writes_are_the_runs(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "given.csv").write_text("a")
    request = TrainingRequest(script=capture(WRITER), files=(str(tmp_path / "given.csv"),))
    run = workspace.model("dev/files").plan_training(request).start()
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    assert [(file.name, file.size, file.shown) for file in run.files] == [
        ("notes.txt", 5, False),
        ("out/predictions.csv", 3, False),
    ]
    assert run.file("predictions.csv").read_text() == "x,y"
    assert run.file("out/predictions.csv") == run.folder.path / "work/out/predictions.csv"
    for name in ("link", "cell.py", "given.csv", "../run.json"):
        with pytest.raises(NotFoundError, match="has no file"):
            run.file(name)


def test_a_container_sends_the_small_files_that_its_script_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAPTAIN_CHANNEL", "stdout")
    (tmp_path / "data.csv").write_text("a")
    (tmp_path / "same.csv").write_text("b")
    before = written.snapshot(str(tmp_path))
    (tmp_path / "data.csv").write_text("changed")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "new.bin").write_bytes(bytes(100_000))
    (tmp_path / "large.bin").write_bytes(bytes((1 << 20) + 1))
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "same.csv")
    written.send_written(str(tmp_path), before)
    events = list(OutputReader().feed(capfd.readouterr().out.encode()))
    files = {event.path: event.data for event in events if isinstance(event, FileWritten)}
    assert files == {"data.csv": b"changed", "out/new.bin": bytes(100_000)}
    (note,) = (event for event in events if isinstance(event, Noted))
    assert note.text == "written by the script and not brought here: large.bin (1.0 MB)"
    monkeypatch.setenv("KAPTAIN_TRIAL", "1")
    assert written.snapshot(str(tmp_path)) == {}

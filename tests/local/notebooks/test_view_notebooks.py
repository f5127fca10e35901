"""Small notebooks, executed by nbclient: no JavaScript runs there, and what is saved must stand for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.unit.views.test_html import Page

ROOT = Path(__file__).resolve().parents[3]
PRELUDE = """
import os, threading, time
from pathlib import Path
from kaptain_magics import views
from kaptain_magics.core.events import *
from kaptain_magics.core.states import *
from tests.unit.views import stories
home = Path(os.environ["KAPTAIN_HOME"])

def later(run, *events, pause=0.1):
    def tell():
        for event in events:
            time.sleep(pause)
            run.tell(event)
    thread = threading.Thread(target=tell)
    thread.start()
    return thread

def go(state, **more):
    return StateChanged(state=RunState(state), **more)
"""


@pytest.fixture
def execute(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Executes cells in a fresh kernel and returns the notebook."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"):
        monkeypatch.delenv(name, raising=False)

    def run(*cells: str, **environment: str) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (PRELUDE, *cells)])
        client = NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
        nbformat.validate(notebook)
        return notebook

    return run


def displays(cell: Any) -> list[dict[str, str]]:
    return [output["data"] for output in cell.outputs if output.output_type == "display_data"]


def the_card(cell: Any) -> tuple[Page, str]:
    """The only output of a cell, which must need no script."""
    (data,) = displays(cell)
    assert len(cell.outputs) == 1
    assert set(data) == {"text/plain", "text/html"}
    page = Page(data["text/html"])
    assert "script" not in {tag for tag, _ in page.tags}
    return page, data["text/plain"]


def test_a_live_run_ends_as_one_static_card(execute: Any) -> None:
    notebook = execute(
        """
run = stories.training(home)
told = go("running"), LogWritten(text="epoch 1\\n"), MetricReported(name="accuracy", value=0.9), go("succeeded")
thread = later(run, *told, pause=0.5)
views.follow(run)
thread.join()
""",
        "views.follow(stories.failed(home))",
    )
    page, plain = the_card(notebook.cells[1])
    assert "succeeded" in page.text
    assert "epoch 1" in plain
    page, plain = the_card(notebook.cells[2])
    assert "ZeroDivisionError" in page.text
    assert "ZeroDivisionError" in plain


def test_a_study_and_an_endpoint(execute: Any) -> None:
    notebook = execute("views.follow(stories.tuned(home, 30))", "views.show_result(stories.deployed(home))")
    page, plain = the_card(notebook.cells[1])
    assert sum(tag == "img" for tag, _ in page.tags) == 1
    assert "30 of 30 trials" in page.text
    assert plain.startswith("Progress: 100%|█████████████████████████|30/30")
    page, plain = the_card(notebook.cells[2])
    assert "http://127.0.0.1:41231/v2/models/dev-mnist/infer" in page.text
    assert "curl -s" in plain


def test_a_widget_leaves_nothing_but_the_card(execute: Any) -> None:
    """The widget's way, as in a browser's kernel, but without a front end to show it."""
    notebook = execute(
        """
run = stories.tuning(home, 40, 20)
thread = later(run, *(stories.trial_events(n)[1] for n in range(18, 24)), go("succeeded"))
views.follow(run)
thread.join()
""",
        KAPTAIN_VIEW="widget",
    )
    page, _ = the_card(notebook.cells[1])
    assert "of 40 trials" in page.text


def test_watching_updates_an_earlier_cell_while_others_run(execute: Any) -> None:
    for mode in ("html", "widget"):
        notebook = execute(
            """
run = stories.training(home).tell(go("running"))
views.watch(run)
""",
            "print('at once')",
            """
run.tell(LogWritten(text="from behind\\n"), go("succeeded"))
watcher = next(t for t in threading.enumerate() if t.name.startswith("kaptain-watch"))
watcher.join(60)
print("still my own output")
""",
            KAPTAIN_VIEW=mode,
        )
        page, plain = the_card(notebook.cells[1])
        assert "succeeded" in page.text
        assert "from behind" in plain
        assert [o.text for o in notebook.cells[2].outputs] == ["at once\n"]
        assert [o.text for o in notebook.cells[3].outputs] == ["still my own output\n"]


def test_text_in_a_notebook_keeps_its_progress_in_place(execute: Any) -> None:
    notebook = execute(
        """
run = stories.tuning(home, 10, 6)
ended = [stories.trial_events(number)[1] for number in (4, 5)]
thread = later(run, *ended, Noted(text="almost"), go("succeeded"), pause=0.4)
views.follow(run)
thread.join()
""",
        KAPTAIN_VIEW="text",
    )
    printed = "".join(o.text for o in notebook.cells[1].outputs if o.output_type == "stream")
    assert printed.count("Experiment mnist-tune-0174088b has been created.") == 1
    assert printed.count("kaptain-log[INFO]: almost") == 1
    (progress,) = displays(notebook.cells[1])
    assert progress["text/plain"].startswith("Progress:  60%|")


def test_lists_are_tables_with_a_text_twin(execute: Any) -> None:
    notebook = execute(
        """
from kaptain_magics.model import Workspace
stories.trained(home)
views.show_runs(Workspace().history())
""",
        "views.show_text('a <b>\\nc')",
    )
    page, plain = the_card(notebook.cells[1])
    assert "table" in {tag for tag, _ in page.tags}
    assert plain.split()[:2] == ["state", "model"]
    page, plain = the_card(notebook.cells[2])
    assert plain == "a <b>\nc"
    assert page.text == "a <b>\nc"


FLOOD = """
import resource, subprocess, sys
writer = '''
import os, sys
from pathlib import Path
from kaptain_magics.core.events import *
from kaptain_magics.core.states import *
from kaptain_magics.state import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.append(StateChanged(state=RunState.RUNNING))
with open(folder.log_path, "ab") as log:
    for block in range(1000):
        start = log.tell()
        numbers = range(block * 1000, block * 1000 + 1000)
        log.write(b"".join(b"line %d: epoch loss accuracy and other words\\\\n" % number for number in numbers))
        log.flush()
        folder.append(LogWritten(start=start, end=log.tell()))
folder.append(StateChanged(state=RunState.SUCCEEDED))
'''
def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
views.follow(stories.trained(home), mode=views.Mode(os.environ["KAPTAIN_VIEW"]))
run = stories.training(home)
before = memory()
process = subprocess.Popen([sys.executable, "-c", writer, str(run.folder.path)])
"""


@pytest.mark.parametrize("mode", ["widget", "html", "text"])
def test_a_million_lines(execute: Any, mode: str) -> None:
    """All are in the file; the notebook holds the end, and the kernel's memory stays where it was."""
    notebook = execute(
        FLOOD,
        "views.follow(run)",
        "process.wait(); print((memory() - before) // 1024, sum(1 for _ in open(run.folder.log_path)))",
        KAPTAIN_VIEW=mode,
    )
    grown, lines = map(int, notebook.cells[3].outputs[0].text.split())
    assert lines == 1_000_000
    assert grown < 40  # MiB; the widgets' import is part of it
    shown = notebook.cells[2].outputs
    assert "line 999999: epoch" in str(shown)
    assert len(nbformat.writes(notebook)) < 400_000

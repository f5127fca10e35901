"""The magics in a real kernel: one output a cell, results that stay, failures that stop Run All, Tab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[3]
LOAD = "%load_ext kaptain_magics"
TRAIN = "%%kaptain_train dev/kernel --metric accuracy=score\nscore = 0.5\nprint('trained')\n"


@pytest.fixture
def client(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes clients that execute cells in a fresh kernel."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"):
        monkeypatch.delenv(name, raising=False)

    def make(*cells: str) -> NotebookClient:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (LOAD, *cells)])
        return NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )

    return make


def test_a_result_is_shown_once_and_kept(client: Any) -> None:
    notebook = client(
        TRAIN,
        "run = _\nprint(type(run).__name__, run is _kaptain)",
        "run",
        "again = %kaptain_train dev/kernel --file train.py",
        "%kaptain attach",
        "%kaptain",
        "%unload_ext kaptain_magics",
        "run",
    )
    Path(notebook.resources["metadata"]["path"], "train.py").write_text("print('from a file')")
    cells = notebook.execute().cells[1:]
    assert [[o.output_type for o in c.outputs] for c in cells[:5]] == [
        ["display_data"],
        ["stream"],
        ["display_data"],
        ["display_data"],
        ["display_data"],
    ]
    assert cells[1].outputs[0].text == "TrainingRun True\n"
    for card in (cells[0], cells[2]):
        assert "accuracy" in card.outputs[0].data["text/html"]
        assert "trained" in card.outputs[0].data["text/plain"]
    assert "dev/kernel" in cells[5].outputs[0].data["text/html"]
    assert [o.output_type for o in cells[7].outputs] == ["execute_result"]


@pytest.mark.parametrize(
    ("cell", "name", "message"),
    [
        ("%%kaptain_train dev/bad\nraise KeyError('lost')\n", "RunFailedError", "KeyError: 'lost'"),
        ("%%kaptain_train dev/bad\nprint(df)\n", "ScriptError", "`df` in line 2 is not defined anywhere"),
        ("%kaptain_tune dev/none --trials 0", "UsageError", "--trials '0': write a whole number"),
    ],
)
def test_a_failure_stops_run_all_without_a_traceback_of_ours(client: Any, cell: str, name: str, message: str) -> None:
    made = client(cell, "print('never')")
    with pytest.raises(CellExecutionError) as caught:
        made.execute()
    assert caught.value.ename == name
    assert message in str(caught.value)
    assert "kaptain_magics/magics" not in str(made.nb)
    assert not made.nb.cells[2].outputs


@pytest.fixture
def kernel(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The client of a running kernel with the magics loaded."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    manager: KernelManager
    manager, made = start_new_kernel(startup_timeout=120)
    try:
        made.execute_interactive(LOAD, timeout=120)
        yield made
    finally:
        made.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_tab_in_a_kernel(kernel: Any) -> None:
    def offers(code: str) -> tuple[list[str], str]:
        reply = kernel.complete(code, len(code), reply=True, timeout=60)["content"]
        return reply["matches"], code[reply["cursor_start"] : reply["cursor_end"]]

    assert offers("%kaptain_train dev/x --req") == (["--requirements"], "--req")
    assert offers("%%kaptain_train dev/x --on=dock") == (["docker"], "dock")
    assert offers("%%kaptain_tune dev/x\nc = Dou") == (["Double("], "Dou")
    assert offers("%kaptain att") == (["attach"], "att")

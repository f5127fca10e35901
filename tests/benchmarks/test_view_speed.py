"""What it costs to look: a job that writes a million lines, and studies of many trials."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from kaptain_magics.core.events import StateChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.views import html
from kaptain_magics.views.fold import view_of
from tests.unit.views import stories

pytestmark = pytest.mark.benchmark

ROOT = Path(__file__).resolve().parents[2]
LINES = 1_000_000
SCRIPT = f"""
import sys
for block in range({LINES // 1000}):
    sys.stdout.write("".join(f"line {{block * 1000 + i}} of a job that says a lot\\n" for i in range(1000)))
"""
ROUNDS = 4
AFTER = "took.append(time.perf_counter() - begun)"
MEMORY = """
import resource
def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - begun, result


def test_a_million_lines(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script, plain = tmp_path / "script.py", tmp_path / "plain.txt"
    script.write_text(SCRIPT)

    def run_plain() -> None:
        with plain.open("wb") as out:
            subprocess.run([sys.executable, str(script)], stdout=out, check=True)

    fresh = min(timed(run_plain)[0] for _ in range(ROUNDS))
    copy = ["sh", "-c", f"cat {plain} | cat > {tmp_path}/copy"]
    cat = min(timed(subprocess.run, copy)[0] for _ in range(ROUNDS))

    cells = [
        f"%load_ext kaptain_magics\n{MEMORY}",
        "%%kaptain_train dev/quiet\nprint('warm')",
        "import time\nbefore, took = memory(), []",
        *["begun = time.perf_counter()", f"%%kaptain_train dev/loud --into run\n{SCRIPT}", AFTER] * ROUNDS,
        "print(min(took), memory() - before)",
        "lines = run.log().splitlines()\n"
        f"print(lines == [f'line {{i}} of a job that says a lot' for i in range({LINES})])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    ours, grown = map(float, notebook.cells[-2].outputs[0].text.split())
    assert notebook.cells[-1].outputs[0].text == "True\n"
    shown = len(json.dumps(notebook.cells[-4].outputs))
    print(f"\n{'a million lines':<34}{'seconds':>9}{'ratio':>8}")
    for name, seconds in (("cat through a pipe", cat), ("python script.py > file", fresh), ("%%kaptain_train", ours)):
        print(f"{name:<34}{seconds:>9.2f}{seconds / fresh:>8.2f}")
    whole = plain.stat().st_size
    print(f"kernel's memory +{grown:.1f} MiB, saved output {shown / 1024:.0f} KiB of {whole / 1024:.0f} KiB")


def test_studies_of_many_trials(home: Path) -> None:
    from kaptain_magics.views.widget import CardDiff

    print(f"\n{'trials':>8}{'µs/event':>10}{'KiB sent':>10}{'as HTML':>10}{'card KiB':>10}{'ms/drawing':>12}")
    for trials in (100, 1000, 5000):
        view, diff, sent, rows, best = view_of(stories.study(home, trials)), CardDiff(), 0, 0, -1.0
        view.take(StateChanged(state=RunState.RUNNING, time=1.0))
        folding = drawing = 0.0
        last: dict[str, Any] = {}
        for number in range(trials):
            begun, ended, best = stories.trial_events(number, best=best)
            for event in (begun, ended):
                folding += timed(view.take, event)[0]
            if number % 5 == 4:  # twenty trials a second, four drawings
                seconds, parts = timed(diff.parts, view)
                drawing += seconds
                changed = {name: value for name, value in parts.items() if last.get(name) != value}
                last |= changed
                sent += len(json.dumps(changed))
                rows += (number + 1) * 250
        card = len(html.card(view, 2.0))
        kib = (f"{size / 1024:>10.0f}" for size in (sent, rows, card))
        per_event, per_drawing = folding / trials / 2 * 1e6, drawing / (trials / 5) * 1e3
        print(f"{trials:>8}{per_event:>10.1f}{''.join(kib)}{per_drawing:>12.2f}")

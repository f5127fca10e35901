"""The magics in IPython's terminal, typed as a person types them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from kaptain_magics.core.states import RunState
from kaptain_magics.model import Workspace

ROOT = Path(__file__).resolve().parents[3]
SLOW = "import time\nfor i in range(600):\n    print('step', i, flush=True)\n    time.sleep(0.1)\n"
PROMPT = r"In \[\d+\]: "


@pytest.fixture
def terminal(home: Path, tmp_path: Path) -> Iterator[pexpect.spawn[str]]:
    """IPython in a terminal, with the magics loaded."""
    (tmp_path / "train.py").write_text("gamma = 0.1\nscore = gamma\nprint('gamma is', gamma)\n")
    (tmp_path / "slow.py").write_text(SLOW)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython"), "TERM": "dumb"}
    arguments = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"]
    child = pexpect.spawn(
        sys.executable,
        arguments,
        cwd=str(tmp_path),
        env=environment,
        encoding="utf-8",
        timeout=90,
        dimensions=(50, 200),
    )
    child.expect(PROMPT)
    say(child, "%load_ext kaptain_magics")
    yield child
    child.close(force=True)


def say(child: pexpect.spawn[str], line: str) -> str:
    """Type a line and return what is printed until the next prompt."""
    child.sendline(line)
    child.expect(PROMPT)
    return str(child.before)


def test_a_session(terminal: pexpect.spawn[str]) -> None:
    shown = say(terminal, "%kaptain_train dev/term --file train.py --metric accuracy=score gamma=0.5")
    assert "gamma is 0.5" in shown
    assert "accuracy" in shown
    assert "Traceback" not in shown
    assert "UsageError: %%kaptain_train has no option --gama" in say(terminal, "%kaptain_train dev/term --gama 3")
    assert "ScriptError: the script takes no `gama`" in say(terminal, "%kaptain_train a --file train.py gama=3")
    assert "did you mean 'gamma'?" in say(terminal, "%kaptain_train a --file train.py gama=3")
    assert "TrainingRun" in say(terminal, "type(_kaptain)")
    overview = say(terminal, "%kaptain")
    assert "succeeded" in overview
    assert "dev/term" in overview


def test_control_c_stops_the_run(terminal: pexpect.spawn[str]) -> None:
    terminal.sendline("%kaptain_train dev/slow --file slow.py")
    terminal.expect("step 3")
    terminal.sendintr()
    terminal.expect(r"Interrupted: dev-slow-job-\w+ stopped")
    terminal.expect(PROMPT)
    assert [summary.state for summary in Workspace().runs()] == [RunState.STOPPED]
    assert "stopped" in say(terminal, "%kaptain runs")

"""The study loop over real processes of the local target."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.domains import Discrete, Integer
from kaptain_magics.core.scripts import Binding
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.script import capture
from kaptain_magics.targets.base import Target, TargetConfig, open_target
from kaptain_magics.tuning.finish import StudyResult
from kaptain_magics.tuning.study import run_study
from tests.waiting import until


@pytest.fixture
def target(home: Path) -> Iterator[Target]:
    return open_target("local", TargetConfig(home=home, cache=home / "cache"))


class Local:
    """Runs a study of plain code whose hyperparameter is ``x``."""

    def __init__(self, studies, target: Target) -> None:
        self._studies, self._target = studies, target

    def __call__(self, source: str, **changes) -> StudyResult:
        spec = self._studies.spec(**{"domains": {"x": Integer(0, 9)}, "algorithm": "grid", **changes})
        job = msgspec.structs.replace(spec.job, script=capture("x = 0\n" + source), bindings={"x": Binding.ASSIGNMENT})
        folder = self._studies.folder
        return run_study(
            msgspec.structs.replace(spec, job=job), self._target, emit=self._studies.events.append,
            stopping=self._studies.stopping, folder=folder, upload_base=(folder / "store").as_uri(),
        )  # fmt: skip


@pytest.fixture
def run(studies, target: Target) -> Local:
    return Local(studies, target)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())


def test_printed_metrics_and_failures_with_their_log(studies, run: Local) -> None:
    source = "print('epoch 1: accuracy=0.25')\nif x == 2: raise ValueError('two is too much')\nprint('accuracy =', x)"
    result = run(source, trials=4, parallel=2)
    assert result.state is RunState.SUCCEEDED
    assert studies.states() == [TrialState.SUCCEEDED, TrialState.SUCCEEDED, TrialState.FAILED, TrialState.SUCCEEDED]
    assert result.best.parameters == {"x": 3}
    assert result.best.metrics["accuracy"].min == 0.25
    assert studies.trials[2].reason == "the script raised ValueError: two is too much"
    assert "two is too much" in (studies.folder / "trials/2/log.txt").read_text()


def test_a_killed_trial_names_its_signal_and_the_study_goes_on(studies, run: Local) -> None:
    result = run("import os\nif x == 1: os.kill(os.getpid(), 9)\nprint('accuracy=1')", trials=3)
    assert result.counts == {TrialState.SUCCEEDED: 2, TrialState.FAILED: 1}
    assert "signal 9" in studies.trials[1].reason


def test_the_median_rule_ends_real_processes(studies, run: Local) -> None:
    source = """
import kaptain, os, pathlib, time
pathlib.Path(__file__).parent.parent.joinpath("pid").write_text(str(os.getpid()))
for step in range(3000 if x >= 2 else 5):
    kaptain.log_metrics(accuracy=-x * (step + 1), step=step)
    if x >= 2: time.sleep(0.05)
"""
    settings = {"min_trials_required": "2", "start_step": "2"}
    result = run(source, trials=3, early_stopping="medianstop", early_stopping_settings=settings)
    assert studies.states() == [TrialState.SUCCEEDED, TrialState.SUCCEEDED, TrialState.EARLY_STOPPED]
    assert result.best.parameters == {"x": 0}
    assert studies.trials[2].reason.startswith("stopped early at step ")
    assert not alive(int((studies.folder / "trials/2/pid").read_text()))


def test_stopping_ends_every_process(studies, run: Local) -> None:
    source = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(__file__).parent.parent.joinpath("pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
    files = [studies.folder / f"trials/{n}/pids" for n in range(2)]

    def stop() -> None:
        until(lambda: all(f.exists() and len(f.read_text().split()) == 2 for f in files))
        studies.stopping.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    result = run(source, parallel=2)
    stopper.join()
    assert result.state is RunState.STOPPED
    assert studies.states() == [TrialState.KILLED] * 2
    for file in files:
        for pid in file.read_text().split():
            until(lambda pid=pid: not alive(int(pid)))


def test_a_trial_that_takes_too_long_fails_with_its_reason(studies, run: Local) -> None:
    job = msgspec.structs.replace(studies.spec(domains={}).job, timeout=0.5)
    begun = time.monotonic()
    result = run("import time\ntime.sleep(x * 600)\nprint('accuracy=1')", trials=2, job=job)
    assert studies.states() == [TrialState.SUCCEEDED, TrialState.FAILED]
    assert studies.trials[1].reason == "timed out after 0.5 s"
    assert result.best.number == 0
    assert time.monotonic() - begun < 60


def test_texts_reach_the_script_as_they_were_given(studies, run: Local) -> None:
    run("print('accuracy=', float(len(x)))", trials=2, domains={"x": Discrete(["5", "10"])})
    values = {t.parameters["x"]: t.metrics["accuracy"].latest for t in studies.trials}
    assert values == {"5": 1.0, "10": 2.0}

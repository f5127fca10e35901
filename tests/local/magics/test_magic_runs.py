"""The magics at work on the local target, with real supervisors and jobs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.errors import RunFailedError
from kaptain_magics.magics.line_errors import Interrupted
from kaptain_magics.model import Study, TrainingRun, Workspace
from tests.shell import Notebook
from tests.waiting import until

TRAIN = "gamma = 0.1\nscore = gamma * 2\nprint('gamma is', gamma)\n"
ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float, default=1.0)
parser.add_argument("--fast", action="store_true")
args = parser.parse_args()
print("rate", args.learning_rate, "fast", args.fast)
print(f"accuracy={1 - abs(args.learning_rate - 0.3)}")
"""
SLOW = "import time\nfor i in range(600):\n    print('step', i, flush=True)\n    time.sleep(0.1)\n"

Capture = pytest.CaptureFixture[str]


def test_a_cell_is_trained(notebook: Notebook, capsys: Capture) -> None:
    run = notebook.run("%%kaptain_train dev/plain --metric accuracy=score gamma=0.25 --into mine\n" + TRAIN)
    assert isinstance(run, TrainingRun)
    assert run.state is RunState.SUCCEEDED
    assert run.hyperparameters == {"gamma": 0.25}
    assert run.metrics["accuracy"].latest == 0.5
    for name in ("mine", "_kaptain", "_"):
        assert notebook.variables[name] is run
    assert "gamma is 0.25" in capsys.readouterr().out


def test_options_of_a_command_line_arrive_under_their_own_names(notebook: Notebook) -> None:
    notebook.run("params = {'fast': True}")
    run = notebook.run("%%kaptain_train dev/options learning_rate=0.5 params\n" + ARGPARSE)
    assert "rate 0.5 fast True" in run.log()
    assert run.metrics["accuracy"].latest == pytest.approx(0.8)


def test_variables_are_filled_in_as_ipython_does(notebook: Notebook) -> None:
    notebook.run("import numpy as np\nrate, where = 0.25, 'dev/filled'\nparams = {'gamma': np.float64(0.5)}")
    run = notebook.run("%%kaptain_train {where} gamma={rate * 2} --args $rate\n" + TRAIN)
    assert (run.model_id, run.hyperparameters, run.record.job.args) == ("dev/filled", {"gamma": 0.5}, ("0.25",))
    run = notebook.run("%%kaptain_train dev/filled params \\\n  --cpu {rate}\n" + TRAIN)
    assert (run.hyperparameters, run.record.job.resources.cpu_limit) == ({"gamma": 0.5}, "0.25")


def test_a_failure_is_one_message_with_the_cells_line_numbers(notebook: Notebook, capsys: Capture) -> None:
    error = notebook.error("%%kaptain_train dev/bad \\\n  --timeout 60\nx = 1\nraise ValueError('boom')\n")
    shown = capsys.readouterr().out
    assert isinstance(error, RunFailedError)
    assert "ValueError: boom" in error.message
    assert 'cell.py", line 4, in <module>' in shown
    assert shown.count("Traceback") == 1  # the script's own
    assert notebook.variables["_kaptain"].state is RunState.FAILED


def test_values_are_sent_and_brought_back(notebook: Notebook) -> None:
    notebook.run("rows = [1, 2, 3]\nfactor = 10")
    notebook.run("%%kaptain_train dev/send --send rows,factor --fetch total\ntotal = factor * sum(rows)\n")
    assert notebook.variables["total"] == 60


def test_what_cannot_be_sent_or_brought_back_is_reported_in_one_line(notebook: Notebook, capsys: Capture) -> None:
    notebook.run("class Own:\n    pass\nown = Own()\ndef helper():\n    pass")
    notebook.run("Own.__module__ = helper.__module__ = '__main__'")  # as in a kernel
    for name in ("own", "helper"):
        error = notebook.error(f"%%kaptain_train dev/send --send {name}\nprint(1)\n")
        assert f"`{name}` cannot be sent: the job does not have the notebook's" in str(error)
    notebook.run("%%kaptain_train dev/send --fetch k\nclass K:\n    shade = 'dark'\nk = K()\n")
    assert notebook.variables["k"].shade == "dark"
    assert "kaptain_magics/model" not in capsys.readouterr().out


def test_a_number_that_overflows_is_no_metric(notebook: Notebook) -> None:
    run = notebook.run("%%kaptain_train dev/huge\nprint('auc=1e400')\nprint('loss=0.5')\n")
    assert list(run.metrics) == ["loss"]


def test_the_next_step_of_a_jobs_own_error_is_reported(notebook: Notebook) -> None:
    error = notebook.error("%%kaptain_train dev/word\nimport kaptain\nkaptain.log_metrics(loss='high')\n")
    assert isinstance(error, RunFailedError)
    assert "report one number" in error.hint


def test_files_requirements_environment_and_arguments(notebook: Notebook) -> None:
    Path("data").mkdir()
    Path("data/rows.txt").write_text("seven")
    cell = "import os, sys\nprint(open('data/rows.txt').read(), os.environ['SHADE'], sys.argv[1:])\n"
    run = notebook.run('%%kaptain_train dev/files --files data --env SHADE=dark --args "--epochs 3"\n' + cell)
    assert "seven dark ['--epochs', '3']" in run.log()


def test_a_file_is_trained_by_a_line(notebook: Notebook) -> None:
    Path("train.py").write_text(TRAIN)
    run = notebook.run("result = %kaptain_train dev/file --file train.py gamma=3\nresult")
    assert run.hyperparameters == {"gamma": 3}
    assert run.record.job.script.name == "train.py"


def test_a_line_takes_the_rest_of_its_cell(notebook: Notebook, capsys: Capture) -> None:
    run = notebook.run("# a comment\n%kaptain_train dev/own gamma=4\n" + TRAIN)
    assert "gamma is 4" in run.log()
    assert "gamma" not in notebook.variables
    notebook.error("# a comment\n%kaptain_train dev/own\n1 / 0\n")
    assert 'cell.py", line 3, in <module>' in capsys.readouterr().out


def test_a_dry_run_shows_the_plan_and_starts_nothing(notebook: Notebook, home: Path, capsys: Capture) -> None:
    assert notebook.run("%%kaptain_train dev/dry --dry-run gamma=0.5\n" + TRAIN) is None
    assert "gamma = 0.5" in capsys.readouterr().out
    assert not list(home.glob("runs/*"))


def test_a_detached_run_is_attached_and_stopped(notebook: Notebook, capsys: Capture) -> None:
    run = notebook.run("%%kaptain_train dev/slow --detach\n" + SLOW)
    until(lambda: "step 3" in run.log())
    assert not run.state.terminal
    assert "attach" in capsys.readouterr().out
    notebook.run("%kaptain")
    assert run.run_id in capsys.readouterr().out
    notebook.run("%kaptain stop dev/slow")
    assert run.state is RunState.STOPPED
    capsys.readouterr()
    error = notebook.error("%kaptain attach")
    assert isinstance(error, RunFailedError)
    assert "step 0\n" in capsys.readouterr().out
    notebook.run("%kaptain logs dev/slow --lines 2")
    assert len(capsys.readouterr().out.splitlines()) == 2
    notebook.run(f"%kaptain show {run.run_id}")
    assert "cell.py" in capsys.readouterr().out
    notebook.run("%kaptain clean --force")
    notebook.run("%kaptain doctor")
    assert "storage" in capsys.readouterr().out


def inside(function: str) -> bool:
    """Whether the main thread is within a function of that name."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def interrupted(notebook: Notebook, cell: str, *again_in: str) -> BaseException:
    """Run a cell and interrupt it while it waits for a job that has written, and again within other functions."""

    def interrupt() -> None:
        workspace = Workspace()
        until(lambda: any("step 1" in f.log_text() for f in workspace.store.folders()))
        for function in ("to_the_end", *again_in):
            until(lambda name=function: inside(name))  # type: ignore[misc]
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        return notebook.error(cell)
    finally:
        thread.join()


def test_an_interrupt_stops_the_run(notebook: Notebook, capsys: Capture) -> None:
    error = interrupted(notebook, "%%kaptain_train dev/stop --into mine\n" + SLOW)
    assert isinstance(error, Interrupted)
    assert str(error).endswith("stopped")
    assert notebook.variables["mine"].state is RunState.STOPPED
    assert "Traceback" not in capsys.readouterr().out


def test_an_interrupt_can_leave_the_run_alone(notebook: Notebook) -> None:
    error = interrupted(notebook, "%%kaptain_train dev/leave --on-interrupt detach\n" + SLOW)
    run = notebook.variables["_kaptain"]
    assert isinstance(error, Interrupted)
    assert f"is still running; %kaptain attach {run.run_id} shows it" in str(error)
    assert not run.state.terminal
    attached = interrupted(notebook, "%kaptain attach dev/leave")
    assert isinstance(attached, Interrupted)
    assert not run.state.terminal
    notebook.run(f"%kaptain stop {run.run_id}")
    assert run.state is RunState.STOPPED


def test_a_run_that_has_ended_is_not_called_stopped(notebook: Notebook, capsys: Capture) -> None:
    run = notebook.run("%%kaptain_train dev/ended\nprint(1)\n")
    capsys.readouterr()
    notebook.run("%kaptain stop dev/ended")
    assert capsys.readouterr().out == f"{run.name} was not stopped, it has succeeded\n"


def test_a_run_without_a_log_says_so(notebook: Notebook, capsys: Capture) -> None:
    run = notebook.run("%%kaptain_train dev/silent\nx = 1\n")
    capsys.readouterr()
    notebook.run("%kaptain logs dev/silent")
    assert capsys.readouterr().out == f"{run.name} has no log here\n"


def test_a_second_interrupt_loses_nothing(notebook: Notebook) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLOW
    error = interrupted(notebook, "%%kaptain_train dev/stubborn\n" + stubborn, "stop")
    run = notebook.variables["_kaptain"]
    assert isinstance(error, Interrupted)
    assert "is still being stopped" in str(error)
    until(lambda: run.state.terminal)
    assert run.state is RunState.STOPPED


def test_a_study_in_all_its_forms(notebook: Notebook, capsys: Capture) -> None:
    notebook.run("%%kaptain_train dev/study\n" + ARGPARSE)
    line = "%kaptain_tune dev/study learning_rate=Double(0.1, 0.5) --trials 4 --objective accuracy --seed 1 --into best"
    study = notebook.run(line)
    assert isinstance(study, Study)
    assert len(study.trials) == 4
    assert set(study.best_parameters) == {"learning-rate"}
    assert notebook.variables["best"] is study
    shown = capsys.readouterr().out
    assert "4/4" in shown
    notebook.run("%kaptain_tune dev/study --trials 2 --dry-run")  # the last study's domains and objective
    assert "learning-rate" in capsys.readouterr().out
    notebook.run("from kaptain_magics.core.domains import Double\nspace = {'learning-rate': Double(0.2, 0.3)}")
    domains = "# fast or not\nfast = Categorical(['true', 'false'])\n"
    study = notebook.run(f"%%kaptain_tune dev/study space --trials 2 --objective accuracy --minimize\n{domains}")
    assert set(study.trials[0].parameters) == {"learning-rate", "fast"}
    assert study.record.study.direction == "minimize"


def finished(study: Study) -> int:
    return sum(trial.state is TrialState.SUCCEEDED for trial in study.trials)


def test_a_stopped_study_goes_on(notebook: Notebook) -> None:
    Path("train.py").write_text("import time\nc = 1.0\ntime.sleep(0.2)\nprint(f'loss={c}')\n")
    line = "%kaptain_tune dev/again c=Double(0, 1) --file train.py --objective loss --minimize --trials 8 --detach"
    study = notebook.run(line)
    until(lambda: finished(study) >= 2)
    study.stop()
    before = finished(study)
    assert 2 <= before < 8
    resumed = notebook.run("%kaptain_tune dev/again --resume --trials 9")
    assert resumed.state is RunState.SUCCEEDED
    assert finished(resumed) == 9
    assert "so --algorithm cannot be given" in str(notebook.error("%kaptain_tune dev/again --resume --algorithm grid"))


def test_a_study_is_resumed_by_its_run(notebook: Notebook) -> None:
    Path("train.py").write_text("import time\nc = 1.0\ntime.sleep(0.2)\nprint(f'loss={c}')\n")
    study = notebook.run("%kaptain_tune dev/again c=Double(0, 1) --file train.py --objective loss --trials 5 --detach")
    until(lambda: finished(study) >= 1)
    notebook.run("%kaptain stop dev/again")
    resumed = notebook.run(f"%kaptain resume {study.run_id} --into mine")
    assert finished(resumed) == 5
    assert notebook.variables["mine"] is resumed


def test_lists_of_what_there_is(notebook: Notebook, capsys: Capture) -> None:
    notebook.run("%%kaptain_train dev/first\nprint(1)\n")
    notebook.run("%%kaptain_train dev/second\nprint(2)\n")
    capsys.readouterr()
    notebook.run("%kaptain runs --limit 1")
    shown = capsys.readouterr().out
    assert "dev/second" in shown
    assert "dev/first" not in shown
    for verb in ("models", "endpoints", "clean"):
        notebook.run(f"%kaptain {verb}")
        assert capsys.readouterr().out

"""Scripts that misbehave, surroundings that fail: one message with a next step, nothing half-written, nothing left."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from IPython.core.error import UsageError

from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, RunFailedError
from kaptain_magics.model import Workspace
from tests.disks import small_disk
from tests.shell import Notebook
from tests.waiting import until

Output = pytest.CaptureFixture[str]

SLEEPER = "sleep 86413"  # a command line that no other process has
MODEL = "from sklearn.dummy import DummyClassifier\nclf = DummyClassifier().fit([[0], [1]], [0, 1])\n"

FAILING: dict[str, tuple[str, str, str]] = {  # what the script does: options, its text, the reason
    "exits": ("", "import sys\nsys.exit(3)", "exit code 3"),
    "exits with a message": ("", "import sys\nsys.exit('no data')", "no data"),
    "ends at once": ("", "import os\nos._exit(7)", "exit code 7"),
    "hangs": ("--timeout 1", "import time\ntime.sleep(86400)", "timed out after 1 s"),
    "hangs in a thread": (
        "--timeout 1",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(86400,)).start()",
        "timed out after 1 s",
    ),
    "ignores the signal to end": (
        "--timeout 1",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(86400)",
        "timed out after 1 s",
    ),
    "crashes": ("", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "aborts": ("", "import os\nos.abort()", "SIGABRT"),
    "raises": ("", "raise ValueError('one\\ntwo')", "ValueError: one"),
    "raises what cannot be printed": ("", "raise ValueError('\\ud800')", "ValueError"),
    "recurses": ("", "def f():\n    f()\nf()", "RecursionError"),
    "interrupts itself": ("", "raise KeyboardInterrupt", "KeyboardInterrupt"),
    "asks a question": ("", "input('name? ')", "a run has no keyboard"),
    "wants a file that is elsewhere": ("", "open('none.csv')", "--files"),
    "wants a library that is missing": ("", "import no_such_library", "--requirements no_such_library"),
    "wants too much memory": ("--memory 200M", "x = bytearray(600_000_000)\nimport time\ntime.sleep(60)", "--memory"),
    "kills its parent": ("", "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(60)", "was killed"),
    "saves no model": ("--model clf", "clf = 3", "cannot be saved"),
    "never makes its model": ("--model clf", "if False:\n    clf = 1", "without a variable `clf`"),
    "ends before its model": ("--model clf", "import sys\nsys.exit(0)\nclf = 1", "without a variable `clf`"),
    "has no such part": ("--metric accuracy=scores.acc", "scores = {}", "there is no `acc`"),
}

LOCKED = "import threading\nclass Locked:\n    lock = None\nf = Locked()\nf.lock = threading.Lock()"
WARNED: dict[str, tuple[str, str, str]] = {  # what a script does that is trained: options, its text, the warning
    "reports a word": ("--metric accuracy=score", "score = 'high'", "not a number"),
    "reports nothing that counts": ("--metric accuracy=score", "score = float('nan')", "is nan"),
    "cannot give its result back": ("--fetch f", LOCKED, "`f` cannot be sent back to the notebook"),
    "has a model that nothing can write": ("--model f", LOCKED, "`f` was not saved"),
    "has a model that nobody can serve": ("--model f", "f = {'weights': [1.0]}", "no server can load it"),
}

PASSING: dict[str, tuple[str, str]] = {  # what the script does: its text, what its log ends with
    "prints bytes": ("import sys\nsys.stdout.buffer.write(bytes(range(256)) * 50)\nprint('\\nend')", "end"),
    "closes its output": ("import sys\nprint('end', flush=True)\nsys.stdout.close()\nsys.stderr.close()", "end"),
    "removes its folder": ("import os, shutil\nshutil.rmtree(os.getcwd())\nprint('end')", "end"),
    "exits with success": ("print('end')\nraise SystemExit", "end"),
    "leaves a process": (f"import subprocess\nsubprocess.Popen({SLEEPER.split()})\nprint('end')", "end"),
    "leaves a fork of its own session": (
        f"import os\nif not os.fork():\n    os.setsid()\n    os.execvp('sleep', {SLEEPER.split()})\nprint('end')",
        "end",
    ),
    "writes without end": ("for i in range(400_000):\n    print('line', i, 'x' * 80)", "line 399999 " + "x" * 80),
    "writes one endless line": ("for i in range(2_000):\n    print('x' * 10_000, end='')\nprint('\\nend')", "end"),
    "reports what is no number": ("print('accuracy=high')\nprint('end')", "end"),
}


@pytest.fixture(autouse=True)
def nothing_is_left(notebook: Notebook, home: Path) -> Iterator[None]:
    """After every test nothing runs that it has started, and every run has ended."""
    yield
    try:
        until(lambda: not sleepers(), seconds=20, what="the end of what a script left behind")
    finally:
        for process in sleepers():  # one failure is enough
            process.kill()
    if (home / "runs").is_dir():
        assert all(summary.state.terminal for summary in Workspace().runs())
        assert not list(home.rglob(".*.part*")) + list(home.rglob("*.tmp"))


def sleepers() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()) == SLEEPER:
                found.append(process)
    return found


def one_message(error: BaseException, output: Output) -> str:
    """Check that an error is one clear message with a next step, shown without a traceback of ours."""
    shown = "".join(output.readouterr())
    assert isinstance(error, (UsageError, KaptainError)), repr(error)
    assert isinstance(error, UsageError) or error.hint, f"no next step: {error}"
    assert "kaptain_magics/magics" not in shown
    assert "kaptain_magics/model" not in shown
    return str(error)


@pytest.mark.parametrize("what", FAILING)
def test_a_script_that(notebook: Notebook, capsys: Output, what: str) -> None:
    options, source, reason = FAILING[what]
    error = notebook.error(f"%%kaptain_train dev/bad {options}\n{source}\n")
    message = one_message(error, capsys)
    assert isinstance(error, RunFailedError)
    assert reason in message
    run = notebook.variables["_kaptain"]
    assert run.state is RunState.FAILED
    assert not run.artifact_uri
    assert Workspace().models() == [] or not Workspace().models()[0].revisions


@pytest.mark.parametrize("what", WARNED)
def test_a_trained_script_is_no_failure(notebook: Notebook, capsys: Output, what: str) -> None:
    options, source, warning = WARNED[what]
    run = notebook.run(f"%%kaptain_train dev/warned {options}\n{source}\n")
    assert run.state is RunState.SUCCEEDED
    assert warning in capsys.readouterr().out


@pytest.mark.parametrize("what", PASSING)
def test_a_script_that_is_no_failure(notebook: Notebook, capsys: Output, what: str) -> None:
    source, last = PASSING[what]
    run = notebook.run(f"%%kaptain_train dev/odd\n{source}\n")
    assert run.state is RunState.SUCCEEDED
    assert run.log(1) == last
    assert "Traceback" not in capsys.readouterr().out


def test_trials_that_all_fail_alike_end_the_study(notebook: Notebook, capsys: Output) -> None:
    Path("train.py").write_text("import sys\nc = 1\nsys.exit('no data')\n")
    line = "%kaptain_tune dev/bad c=Double(0, 1) --trials 50 --objective accuracy --file train.py"
    message = one_message(notebook.error(line), capsys)
    assert "no data" in message
    assert len(notebook.variables["_kaptain"].trials) < 10


def test_an_objective_that_is_never_reported_ends_the_study(notebook: Notebook, capsys: Output) -> None:
    Path("train.py").write_text("c = 1\nprint('accuracy=0.5')\n")
    line = "%kaptain_tune dev/bad c=Double(0, 1) --trials 50 --objective accurracy --file train.py"
    message = one_message(notebook.error(line), capsys)
    assert "accurracy" in message
    assert "accuracy" in message.replace("accurracy", "")


# ---- surroundings ----------------------------------------------------------------------------------------------------

TRAIN = "%%kaptain_train dev/good --model clf\n" + MODEL


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("KAPTAIN_TARGET", "dockr", "did you mean 'docker'?"),
        ("KAPTAIN_ON_INTERRUPT", "wait", "write stop or detach"),
        ("KAPTAIN_PENDING_TIMEOUT", "many", "invalid setting"),
        ("KAPTAIN_HOME", "/dev/null/state", "cannot use /dev/null/state"),
        ("KAPTAIN_STORAGE_URI", "ftp://example.com/models", "ftp"),
        ("KAPTAIN_STORAGE_URI", "file:///dev/null/models", "/dev/null/models"),
        ("KAPTAIN_STORAGE_URI", "s3://bucket/models", "credentials"),
    ],
)
def test_a_wrong_setting(
    notebook: Notebook,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    shown = one_message(notebook.error(TRAIN), capsys)
    assert message in shown
    monkeypatch.delenv(name)
    monkeypatch.setenv("KAPTAIN_HOME", str(tmp_path / "kaptain-home"))


def test_a_broken_settings_file(notebook: Notebook, capsys: Output) -> None:
    Path("kaptain.toml").write_text("target = [")
    assert "kaptain.toml cannot be read" in one_message(notebook.error(TRAIN), capsys)
    Path("kaptain.toml").write_text("targett = 'local'")
    assert "did you mean 'target'?" in one_message(notebook.error(TRAIN), capsys)


def test_a_run_whose_record_is_broken_hides_no_other(notebook: Notebook, home: Path, capsys: Output) -> None:
    run = notebook.run("%%kaptain_train dev/one\nprint(1)\n")
    broken = home / "runs" / "20200101-000000-aaaaaa"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    capsys.readouterr()
    notebook.run("%kaptain runs")
    assert run.run_id in capsys.readouterr().out
    notebook.run("%kaptain clean --force")
    assert not broken.exists()


def test_a_storage_server_that_is_away(notebook: Notebook, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for name, value in {
            "S3_ENDPOINT": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "a-secret-word",
            "KAPTAIN_STORAGE_URI": "s3://bucket/models",
        }.items():
            monkeypatch.setenv(name, value)
        message = one_message(notebook.error(TRAIN), capsys)
    assert "127.0.0.1" in message
    assert "a-secret-word" not in message


def test_a_port_that_is_taken(notebook: Notebook, home: Path, capsys: Output) -> None:
    notebook.run(TRAIN)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = one_message(notebook.error(f"%kaptain_deploy dev/good --port {port}"), capsys)
    assert str(port) in message
    assert Workspace().endpoints() == []


def test_a_model_whose_files_were_changed_is_not_served(notebook: Notebook, capsys: Output, home: Path) -> None:
    notebook.run(TRAIN)
    (saved,) = (home / "storage").rglob("*.joblib")
    saved.write_bytes(saved.read_bytes() + b"x")
    message = one_message(notebook.error("%kaptain_deploy dev/good"), capsys)
    assert "checksum" in message or "sha256" in message
    assert Workspace().endpoints() == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    with small_disk(tmp_path / "tiny", "4m") as folder:
        yield folder


def test_a_disk_that_is_full(
    notebook: Notebook, capsys: Output, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("KAPTAIN_HOME", str(tiny_disk))
    with open(tiny_disk / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    message = one_message(notebook.error("%%kaptain_train dev/full\nprint(1)\n"), capsys)
    assert "No space left" in message
    assert "KAPTAIN_HOME" in message
    assert not list(tiny_disk.glob("runs/*"))
    monkeypatch.setenv("KAPTAIN_HOME", str(home))


def test_a_disk_that_becomes_full(
    notebook: Notebook, capsys: Output, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("KAPTAIN_HOME", str(tiny_disk))
    writer = "open('big', 'wb').write(b'x' * 10_000_000)\n"
    one_message(notebook.error(f"%%kaptain_train dev/full\n{writer}"), capsys)
    run = notebook.variables["_kaptain"]
    assert run.state is RunState.FAILED
    monkeypatch.setenv("KAPTAIN_HOME", str(home))


def test_a_log_that_fills_the_disk(
    notebook: Notebook, capsys: Output, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("KAPTAIN_HOME", str(tiny_disk))
    error = notebook.error("%%kaptain_train dev/full\nfor i in range(100_000):\n    print('x' * 1000)\n")
    one_message(error, capsys)
    until(lambda: not [p for p in psutil.process_iter() if _works_in(p, tiny_disk)])
    monkeypatch.setenv("KAPTAIN_HOME", str(home))


def _works_in(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return Path(process.cwd()).is_relative_to(folder)
    return False

"""Facts of a job on their way out: into a file, onto standard output, or nowhere."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from kaptain_magics.core.events import ArtifactSaved, MetricReported
from kaptain_magics.runtime import channel
from kaptain_magics.runtime.job_errors import JobError, MetricError

ROOT = Path(__file__).parents[3]
KATIB = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")  # of its standard-output collector


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = tmp_path / "channel.jsonl"
    monkeypatch.setenv("KAPTAIN_CHANNEL", f"file:{path}")
    return lambda: [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_metrics_are_appended(lines: Any) -> None:
    channel.log_metrics(accuracy=0.5, loss=2)
    channel.log_metrics({"val/loss": "1e-3"}, step=7)
    channel.record_metrics({"accuracy": "0.9750"})
    found = [(fact["kind"], fact["name"], fact["value"], fact["step"]) for fact in lines()]
    assert found == [
        ("metric", "accuracy", 0.5, None),
        ("metric", "loss", 2.0, None),
        ("metric", "val/loss", 0.001, 7),
        ("metric", "accuracy", 0.975, None),
    ]
    assert all(fact["time"] > 1.7e9 for fact in lines())


def test_facts_are_events(lines: Any) -> None:
    channel.log_metrics(accuracy=0.5, step=3)
    channel.emit(
        {"kind": "artifact", "uri": "file:///x", "files": {"a": "00"}, "size": 1, "framework": "", "format": ""}
    )
    metric, artifact = lines()
    event = msgspec.convert(metric, MetricReported)
    assert (event.name, event.value, event.step) == ("accuracy", 0.5, 3)
    assert msgspec.convert(artifact, ArtifactSaved).files == {"a": "00"}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (True, 1.0),
        ("0.25", 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.array(0.75), 0.75),
        (np.array([[0.75]]), 0.75),
        (np.bool_(True), 1.0),
    ],
)
def test_numbers(lines: Any, value: Any, number: float) -> None:
    channel.log_metrics(m=value)
    assert lines()[0]["value"] == number


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "'m' is nan"),
        (np.inf, "'m' is inf"),
        ("nan", "'m' is nan"),
        (10**400, "not a number"),
        (None, r"not a number: None \(NoneType\)"),
        ("good", "'good'"),
        ([1.0], "list"),
        (np.zeros(3), "ndarray"),
        ("x" * 50, r"x… \(str\)"),
    ],
)
def test_what_is_no_number(lines: Any, tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(MetricError, match=words) as error:
        channel.log_metrics(good=1.0, m=value)
    assert error.value.hint in str(error.value)
    assert not (tmp_path / "channel.jsonl").exists()  # not even the good one


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a=b", 3])
def test_bad_names(lines: Any, name: Any) -> None:
    with pytest.raises(MetricError, match="is not a valid metric name"):
        channel.record_metrics({name: 1.0})


@pytest.mark.parametrize("step", [1.5, "x", None.__class__, np.zeros(2)])
def test_bad_steps(lines: Any, step: Any) -> None:
    with pytest.raises(MetricError, match="step"):
        channel.log_metrics(m=1.0, step=step)


def test_steps_of_other_types(lines: Any) -> None:
    channel.log_metrics(m=1.0, step=np.int32(4))  # type: ignore[arg-type]
    channel.log_metrics(m=1.0, step=5.0)  # type: ignore[arg-type]
    assert [fact["step"] for fact in lines()] == [4, 5]


def test_record_metrics_takes_a_dictionary(lines: Any) -> None:
    with pytest.raises(MetricError, match="dictionary"):
        channel.record_metrics(0.5)  # type: ignore[arg-type]


def test_outside_a_job_metrics_are_printed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAPTAIN_CHANNEL", raising=False)
    log = logging.getLogger("kaptain-log")  # as a script finds it: the contract's console may have been here before
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    with caplog.at_level(logging.INFO):
        channel.record_metrics({"accuracy": 0.5})
    assert [record.message for record in caplog.records] == ["Record metrics.", "Metrics saved."]
    assert {record.name for record in caplog.records} == {"kaptain-log"}
    channel.log_metrics(loss=0.25, auc=1, step=3)
    channel.say("nothing was saved", "save it", warning=True)
    shown = capsys.readouterr()
    assert shown.out == "accuracy=0.5\nloss=0.25 auc=1.0 step=3\n"
    assert shown.err == "kaptain: nothing was saved\nkaptain: save it\n"
    assert channel.emit({"kind": "fetched"}) is False


def test_channel_may_change(lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel.log_metrics(a=1)
    monkeypatch.setenv("KAPTAIN_CHANNEL", f"file:{tmp_path / 'second'}")
    channel.log_metrics(b=2)
    assert [fact["name"] for fact in lines()] == ["a"]
    assert json.loads((tmp_path / "second").read_text())["name"] == "b"


def test_bad_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_CHANNEL", f"file:{tmp_path / 'no' / 'folder'}")
    with pytest.raises(JobError, match="cannot open the job's channel"):
        channel.log_metrics(a=1)
    monkeypatch.setenv("KAPTAIN_CHANNEL", "carrier pigeon")
    with pytest.raises(JobError, match="invalid KAPTAIN_CHANNEL 'carrier pigeon'"):
        channel.log_metrics(a=1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_CHANNEL", "file:/dev/full")
    with pytest.raises(JobError, match="No space left") as error:
        channel.log_metrics(a=1)
    assert "free disk space" in error.value.hint


def test_standard_output(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KAPTAIN_CHANNEL", "stdout")
    channel.log_metrics({"val-accuracy": 1e-7}, step=2)
    channel.emit({"kind": "fetched", "path": "/ü"})
    first, second, third = capfd.readouterr().out.splitlines()
    assert first.startswith(channel.MARK)
    fact = json.loads(first.removeprefix(channel.MARK))
    assert (fact["name"], fact["value"], fact["step"]) == ("val-accuracy", 1e-7, 2)
    found = KATIB.match(second)
    assert found is not None
    assert (found[1], float(found[2])) == ("val-accuracy", 1e-7)
    assert json.loads(third.removeprefix(channel.MARK))["path"] == "/ü"


@pytest.mark.interpreter
def test_standard_output_keeps_the_order_of_prints() -> None:
    code = "import kaptain_magics.runtime.channel as c\nfor i in range(3):\n  print('line', i)\n  c.log_metrics(m=i)\n"
    env = {**os.environ, "KAPTAIN_CHANNEL": "stdout", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60)
    shown = [line for line in done.stdout.splitlines() if not line.startswith(channel.MARK)]
    assert shown == ["line 0", "m=0.0", "line 1", "m=1.0", "line 2", "m=2.0"]


@pytest.mark.interpreter
def test_many_threads_and_processes(lines: Any, tmp_path: Path) -> None:
    """Lines of all writers are whole, and none is lost."""
    code = "import kaptain_magics.runtime.channel as c\nfor i in range(500): c.log_metrics({'x' * 200: i}, step=i)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(2)]
    threads = [threading.Thread(target=lambda: [channel.log_metrics(y=i) for i in range(500)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(lines()) == 2 * 500 + 3 * 500


@pytest.mark.interpreter
def test_a_fork_writes_to_the_channel_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_CHANNEL", f"file:{tmp_path / 'parent'}")
    channel.log_metrics(a=1)
    code = f"""
import os
import kaptain_magics.runtime.channel as c
os.environ["KAPTAIN_CHANNEL"] = "file:{tmp_path}/one"
c.log_metrics(a=1)
child = os.fork()
if child == 0:
    os.environ["KAPTAIN_CHANNEL"] = "file:{tmp_path}/two"
    c.log_metrics(b=2)
    os._exit(0)
os.waitpid(child, 0)
c.log_metrics(c=3)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
    names = {n: [json.loads(x)["name"] for x in (tmp_path / n).read_text().splitlines()] for n in ("one", "two")}
    assert names == {"one": ["a", "c"], "two": ["b"]}


@pytest.mark.interpreter
def test_imports_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import kaptain_magics.runtime.channel, kaptain_magics.runtime.export; "
        "names = {n.partition('.')[0] for n in set(sys.modules) - before}; "
        "print(sorted(names - sys.stdlib_module_names)); print('logging' in sys.modules, 'concurrent' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["['kaptain_magics']", "False False"]

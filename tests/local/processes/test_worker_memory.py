"""Idle warm workers give way where memory is short, the one that was used longest ago first."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from kaptain_magics.core.events import Noted
from kaptain_magics.core.states import RunState
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest
from kaptain_magics.processes.job_process import Process
from kaptain_magics.processes.start_process import start_process
from kaptain_magics.processes.warm_worker import WarmWorker
from kaptain_magics.script import capture
from tests.waiting import until
from tests.workers import packages


def job_of(worker: WarmWorker, folder: Path) -> Process:
    (folder / "script.py").write_text("import time\ntime.sleep(600)\n")
    request = {
        "program": {"script": str(folder / "script.py"), "argv": []},
        "env": dict(os.environ),
        "cwd": str(folder),
    }
    with open(folder / "log.txt", "wb") as log:
        return start_process(request, log.fileno(), warm=worker)


def test_idle_workers_end_in_the_order_of_their_last_use(
    tmp_path: Path, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WarmWorker, "_make_room", lambda *_: None)  # this is about what workers do by themselves
    monkeypatch.setenv("KAPTAIN_WARM_RESERVE", "1e18")  # bytes; no machine has so many
    packages(tmp_path, monkeypatch, busy="", first="", second="")
    job = job_of(WarmWorker(["import busy"], dict(os.environ)), tmp_path)
    names: dict[Path, str] = {next(path for path in workers.rglob("*") if path.is_socket()): "busy"}
    for name in ("first", "second"):
        WarmWorker([f"import {name}"], dict(os.environ)).connect().close()
        (path,) = {path for path in workers.rglob("*") if path.is_socket()} - names.keys()
        names[path] = name
    ended: list[str] = []
    until(lambda: ended.extend(n for p, n in names.items() if not (p.exists() or n in ended)) or len(ended) == 2)
    assert ended == ["first", "second"]
    assert job.wait(3.0) is None  # a worker with a job stays
    job.kill(signal.SIGKILL)


def notes_of(source: str) -> list[str]:
    run = Workspace().model("dev/room").plan_training(TrainingRequest(script=capture(source))).start()
    assert run.wait(60) is RunState.SUCCEEDED, run.reason
    return [event.text for event in run.folder.events() if isinstance(event, Noted) and "memory" in event.text]


def test_a_start_makes_room_and_notes_say_so(
    home: Path, tmp_path: Path, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPTAIN_WARM_RESERVE", "0")
    packages(tmp_path, monkeypatch, one="held = bytearray(50_000_000)", two="")
    assert notes_of("import one") == []
    (kind,) = [path for path in workers.rglob("*.json") if json.loads(path.read_bytes())["memory"] > 50_000_000]
    monkeypatch.setenv("KAPTAIN_WARM_RESERVE", "1e18")
    ended, *_ = notes_of("import two")
    assert re.fullmatch(r"Ended \d idle warm workers?: only [\d.]+ of [\d.]+ GB of memory was available\.", ended)
    assert not kind.with_suffix("").exists()
    again = notes_of("import one")
    assert any(text.startswith("Importing again, since the warm worker was ended: only") for text in again)

"""The contract's console: the same events as the views', printed as its tutorial shows them."""

from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path

import pytest

from kaptain_magics.core.events import EndpointChanged, LogWritten, Noted, StateChanged, TrialChanged
from kaptain_magics.core.states import EndpointState, RunState, TrialState
from kaptain_magics.errors import RunFailedError
from kaptain_magics.model.contract.console import follow_and_log, logger
from tests.unit.views import stories

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} kaptain-log\[(\w+)\]: "


class Run(stories.Run):
    framework = "sklearn"

    def raise_for_failure(self) -> None:
        *_, last = self.folder.events()
        if last.state is not RunState.SUCCEEDED:
            raise RunFailedError(last.reason)

    def stop(self) -> None:
        pass


def printed(run: stories.Run, monkeypatch: pytest.MonkeyPatch, verbose: bool = True) -> list[str]:
    monkeypatch.setattr(sys, "stdout", out := io.StringIO())
    follow_and_log(Run(run.folder), verbose)
    return re.sub(STAMP, r"\1 ", out.getvalue()).splitlines()


def test_a_training_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stories.training(home).tell(
        Noted(text="Submitting"),
        StateChanged(state=RunState.RUNNING),
        LogWritten(text="one\n\ntw"),
        LogWritten(text="o\nloading"),
        Noted(text="the disk is almost full", warning=True, hint="free some"),
        LogWritten(text=" done"),
        StateChanged(state=RunState.SUCCEEDED),
    )
    assert printed(run, monkeypatch) == [
        "INFO Submitting", "INFO [mnist-job-17921389/sklearn] logs:", "one", "two", "loading",
        "WARNING the disk is almost full free some", " done",
    ]  # fmt: skip
    assert printed(run, monkeypatch, verbose=False) == ["INFO Submitting", "WARNING the disk is almost full free some"]


def test_a_failed_run_is_an_error_with_its_hint(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stories.training(home).tell(StateChanged(state=RunState.FAILED, reason="exit code 1", hint="see log.txt"))
    monkeypatch.setattr(sys, "stdout", out := io.StringIO())
    with pytest.raises(RunFailedError, match="exit code 1"):
        follow_and_log(Run(run.folder))
    assert "kaptain-log[ERROR]: mnist-job-17921389 failed: exit code 1. see log.txt" in out.getvalue()


def test_a_study_has_one_progress_line_above_its_last_words(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stories.study(home, trials=2)
    for number in range(2):
        trial = TrialChanged(number=number, name=f"t{number}", state=TrialState.RUNNING, parameters={"gamma": 0.1})
        run.tell(trial, TrialChanged(number=number, name=f"t{number}", state=TrialState.FAILED, parameters={}))
    run.tell(Noted(text="Model tuning completed"), StateChanged(state=RunState.SUCCEEDED))
    progress, last = printed(run, monkeypatch)
    assert progress.startswith("Progress: 100%|█████████████████████████|2/2 [time: 00:0")
    assert progress.endswith("trials running: 0, pending: 0, failed: 2, killed: 0]")
    assert last == "INFO Model tuning completed"


def test_a_deployment_has_the_tutorials_table(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stories.deployment(home).tell(
        EndpointChanged(name="dev-mnist", state=EndpointState.PENDING),
        EndpointChanged(
            name="dev-mnist", state=EndpointState.READY, url=stories.URL, traffic={"a" * 32: 100, stories.REVISION: 0}
        ),
        StateChanged(state=RunState.SUCCEEDED),
    )
    assert [line.split() for line in printed(run, monkeypatch)] == [
        ["NAME", "READY", "PREV", "LATEST", "URL"],
        ["dev-mnist", "Unknown"],
        ["dev-mnist", "True", "100", "0", "http://127.0.0.1:41231"],
    ]


def test_a_users_own_handler_gets_the_messages(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stories.training(home).tell(Noted(text="Submitting"), StateChanged(state=RunState.SUCCEEDED))
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.Handler, "emit", lambda self, record: records.append(record))
    logger().addHandler(handler := logging.Handler())
    try:
        printed(run, monkeypatch)
    finally:
        logger().removeHandler(handler)
    assert [(record.levelname, record.getMessage()) for record in records] == [("INFO", "Submitting")]

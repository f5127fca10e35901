"""A node that has not got a container's log says so in its place: that is never taken for the program's output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kaptain_magics.core.events import Event, LogWritten, Noted, StateChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.targets.kubernetes.api import log_stream
from kaptain_magics.targets.kubernetes.api.exit_reason import exit_reason
from kaptain_magics.targets.kubernetes.api.feed import Feed
from kaptain_magics.targets.kubernetes.api.feed_items import Piece
from kaptain_magics.targets.kubernetes.api.log_stamps import Stamps
from kaptain_magics.targets.kubernetes.api.log_stream import last_log
from kaptain_magics.targets.kubernetes.jobs.job_follower import JobFollower
from kaptain_magics.targets.kubernetes.jobs.job_record import JobRecord
from tests.unit.targets.kubernetes.scripted_api import Answer, listing, pod, serve, silence, stamped

__all__ = ["serve"]

LOST = b"unable to retrieve container logs for docker://4f0c"
BAD = {"code": 400, "reason": "BadRequest", "message": LOST.decode()}
DONE = pod(1, phase="Failed", container="terminated")
TRACE = b"".join(stamped(n, line) for n, line in enumerate(("epoch 1", "Traceback", "ValueError: no such digit")))

lost: Answer = lambda s, _: s.stream(LOST)  # noqa: E731
lost_line: Answer = lambda s, _: s.stream(LOST + b"\n")  # noqa: E731
refused: Answer = lambda s, _: s.say(400, BAD)  # noqa: E731
whole: Answer = lambda s, _: s.stream(TRACE)  # noqa: E731


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_PAUSE", 0.05)


def read(cluster: Any) -> list[Piece]:
    found: list[Piece] = []
    with Feed(cluster) as feed:
        feed.log("log", "p", "c")
        while not (found and found[-1].ended):
            item = feed.next(5.0)
            assert isinstance(item, Piece), item
            found.append(item)
    return found


@pytest.mark.parametrize("first", [lost, lost_line, refused])
def test_a_log_that_is_not_there_yet_is_asked_for_again(serve: Any, first: Answer) -> None:
    cluster, script = serve({"p": [lambda s, _: s.say(200, DONE)], "log": [first, first, whole]})
    found = read(cluster)
    assert b"".join(piece.data for piece in found) == b"epoch 1\nTraceback\nValueError: no such digit\n"
    assert not found[-1].unavailable
    assert [key for key, _ in script.asked].count("log") == 3


def test_lines_before_the_nodes_text_are_kept_once(serve: Any) -> None:
    torn: Answer = lambda s, _: s.stream(stamped(0, "epoch 1") + LOST + b"\n")  # noqa: E731
    cluster, _ = serve({"p": [lambda s, _: s.say(200, DONE)], "log": [torn, whole]})
    assert b"".join(piece.data for piece in read(cluster)) == b"epoch 1\nTraceback\nValueError: no such digit\n"


def test_a_log_that_the_node_has_no_more_ends(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_LOG_TIMEOUT", 0.3)
    cluster, _ = serve({"p": [lambda s, _: s.say(200, DONE)], "log": [lost]})
    (end,) = read(cluster)
    assert end == Piece("log", b"", ended=True, unavailable=LOST.decode())


def test_a_program_may_print_the_same_words() -> None:
    stamps = Stamps()
    assert stamps.feed(stamped(0, LOST.decode())) == LOST + b"\n"
    assert not stamps.unstamped()


def test_the_end_of_a_log_is_asked_for_again(serve: Any) -> None:
    cluster, script = serve({"log": [lost, whole]})
    assert last_log(cluster, DONE, "c").endswith("ValueError: no such digit\n")
    assert all("previous" not in query for _, query in script.asked)
    cluster, _ = serve({"log": [lost]})
    assert last_log(cluster, DONE, "c", timeout=0.2) == ""


def test_the_run_before_comes_first_where_a_container_runs_again(serve: Any) -> None:
    again = pod(1, phase="Running", container="running")
    again["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 1}}
    asked: Answer = lambda s, query: s.stream(stamped(0, "before" if "previous" in query else "now"))  # noqa: E731
    cluster, _ = serve({"log": [lost, asked]})
    assert last_log(cluster, again, "c") == "before\n"
    gone: Answer = lambda s, query: s.stream(LOST if "previous" in query else stamped(0, "now"))  # noqa: E731
    cluster, _ = serve({"log": [gone]})
    assert last_log(cluster, again, "c", timeout=0.2) == "now\n"


@pytest.mark.parametrize(
    ("message", "log", "reason", "hint"),
    [
        ('{"error": "the store is away", "hint": "look at it"}', "anything", "the store is away", "look at it"),
        ("Traceback\nValueError: no\n", "", "the script raised ValueError: no", ""),
        ('last\n::kaptain::{"kind": "metric"}', "", "the script ended with exit code 1: last", ""),
        ("ValueError: cut", "ValueError: whole", "the script raised ValueError: whole", ""),
        ("", "", "the script ended with exit code 1", ""),
    ],
)
def test_the_reason_of_a_containers_end(message: str, log: str, reason: str, hint: str) -> None:
    assert exit_reason({"exitCode": 1, "message": message}, log) == (reason, hint)


def failed_job(message: str) -> dict[str, list[Answer]]:
    ended = {"metadata": {"name": "j", "uid": "j", "resourceVersion": "3"}, "spec": {}}
    ended["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    worker = pod(2, phase="Failed")
    terminated = {"terminated": {"exitCode": 1, "message": message}}
    worker["status"]["containerStatuses"] = [{"name": "c", "state": terminated}]
    return {
        "j": [lambda s, _: s.say(200, ended)],
        "p": [lambda s, _: s.say(200, worker)],
        "jobs": [listing(3, ended)],
        "pods": [listing(3, worker)],
        "events": [listing(3)],
        **{f"{kind}?watch": [silence] for kind in ("jobs", "pods", "events")},
    }


def follow(cluster: Any) -> list[Event]:
    record = JobRecord(kind="Job", container="c")
    return list(JobFollower(cluster, "j", record, 0, 60.0, lambda *_: iter(())).events())


def test_a_failed_jobs_reason_does_not_depend_on_its_log(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_LOG_TIMEOUT", 0.3)
    cluster, _ = serve({**failed_job("ValueError: no such digit"), "log": [lost]})
    events = follow(cluster)
    end = events[-1]
    assert isinstance(end, StateChanged)
    assert (end.state, end.reason, end.exit_code) == (
        RunState.FAILED,
        "the script raised ValueError: no such digit",
        1,
    )
    assert not any(isinstance(event, LogWritten) for event in events)
    said = [event.text for event in events if isinstance(event, Noted) and event.warning]
    assert said == [f"the node does not have the end of the log: {LOST.decode()}"]


def test_a_failed_jobs_log_is_waited_for(serve: Any) -> None:
    cluster, _ = serve({**failed_job(json.dumps({"error": "no", "hint": ""})), "log": [lost, whole]})
    events = follow(cluster)
    assert "".join(event.text for event in events if isinstance(event, LogWritten)).endswith("no such digit\n")
    assert not [event for event in events if isinstance(event, Noted) and event.warning]

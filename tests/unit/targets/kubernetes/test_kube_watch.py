"""Watches and logs ride out what API servers do: dropped connections, ``410 Gone``, outages; nothing lost or twice."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kaptain_magics.errors import TargetError
from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster, UnreachableError
from kaptain_magics.targets.kubernetes.api.feed import Feed
from kaptain_magics.targets.kubernetes.api.feed_items import Change, Item, Piece, SourceFailure
from kaptain_magics.targets.kubernetes.api.log_stamps import Stamps, nanoseconds
from tests.unit.targets.kubernetes.scripted_api import Answer, listing, pod, serve, silence, stamped

__all__ = ["serve"]


def changes(*found: tuple[str, dict[str, Any]], end: bool = True) -> Answer:
    lines = [json.dumps({"type": kind, "object": resource}).encode() + b"\n" for kind, resource in found]
    return lambda server, _: server.stream(*lines, end=end)


def taken(feed: Feed, wanted: Callable[[list[Item]], bool], retry_seconds: int = 200) -> list[Item]:
    found: list[Item] = []
    for _ in range(retry_seconds):
        item = feed.next(0.1)
        if item is not None:
            found.append(item)
        if wanted(found):
            return found
    raise AssertionError(found)


def versions(items: list[Item]) -> list[str]:
    return [item.resource["metadata"]["resourceVersion"] for item in items if isinstance(item, Change)]


def test_a_broken_watch_goes_on_behind_the_last_change(serve: Any) -> None:
    answers = {
        "pods": [listing(1, pod(1))],
        "pods?watch": [
            changes(("MODIFIED", pod(2)), end=False),
            changes(("BOOKMARK", pod(7)), end=True),
            changes(("MODIFIED", pod(8)), end=True),
            silence,
        ],
    }
    cluster, script = serve(answers)
    with Feed(cluster) as feed:
        feed.watch("pods", "Pod")
        found = taken(feed, lambda items: versions(items) == ["1", "2", "8"])
    assert not any(isinstance(item, SourceFailure) for item in found)
    watches = [query["resourceVersion"] for key, query in script.asked if key == "pods?watch"]
    assert watches[:3] == ["1", "2", "7"]
    assert [key for key, _ in script.asked].count("pods") == 1


@pytest.mark.parametrize("how", ["status", "event"])
def test_after_gone_everything_is_compared_with_what_was_seen(serve: Any, how: str) -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old", "metadata": {}}
    refuse: Answer = (lambda server, _: server.say(410, gone)) if how == "status" else changes(("ERROR", gone))
    answers = {
        "pods": [listing(1, pod(1, "a"), pod(1, "b")), listing(9, pod(1, "a"), pod(8, "c"))],
        "pods?watch": [refuse, silence],
    }
    cluster, _ = serve(answers)
    with Feed(cluster) as feed:
        feed.watch("pods", "Pod")
        found = taken(feed, lambda items: len(items) == 4)
    assert [(item.resource["metadata"]["uid"], item.gone) for item in found if isinstance(item, Change)] == [
        ("a", False),
        ("b", False),
        ("c", False),
        ("b", True),
    ]


def test_what_is_forbidden_ends_the_watch(serve: Any) -> None:
    cluster, _ = serve({"events": [lambda server, _: server.say(403, {"code": 403, "message": "no"})]})
    with Feed(cluster) as feed:
        feed.watch("events", "Event")
        (trouble,) = taken(feed, lambda items: bool(items))
    assert isinstance(trouble, SourceFailure)
    assert not trouble.passing
    assert isinstance(trouble.error, ApiError)


def test_an_outage_is_reported_once_and_then_given_up(serve: Any) -> None:
    from kubernetes.client import Configuration

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    cluster = Cluster(Configuration(host=address), "demo")
    with Feed(cluster, retry_seconds=5.0) as feed:
        feed.watch("pods", "Pod")
        found = taken(feed, lambda items: any(not i.passing for i in items if isinstance(i, SourceFailure)))
    assert [item.passing for item in found if isinstance(item, SourceFailure)] == [True, False]
    with pytest.raises(UnreachableError, match="does not answer"):
        cluster.request("GET", "/version", retry_seconds=0.2)


def pieces(items: list[Item]) -> bytes:
    return b"".join(item.data for item in items if isinstance(item, Piece))


def ended(items: list[Item]) -> bool:
    return any(isinstance(item, Piece) and item.ended for item in items)


def test_a_log_is_whole_over_broken_connections(serve: Any) -> None:
    lines = [stamped(n // 10, f"line {n}", n) for n in range(40)]
    running, done = pod(1, phase="Running", container="running"), pod(2, phase="Succeeded", container="terminated")
    answers = {
        "p": [lambda s, _: s.say(200, running)] * 3 + [lambda s, _: s.say(200, done)],
        "log": [
            lambda s, _: s.stream(b"".join(lines[:15]), lines[15][:20], end=False),
            lambda s, _: s.say(500, {"code": 500, "message": "dial tcp: connection refused"}),
            lambda s, _: s.stream(b"".join(lines[10:25])),
            lambda s, _: s.stream(b"".join(lines[20:]) + b"2026-11-22T13:00:09.0Z no newline"),
        ],
    }
    cluster, script = serve(answers)
    with Feed(cluster) as feed:
        feed.log("log", "p", "c")
        found = taken(feed, ended)
    assert pieces(found).decode() == "".join(f"line {n}\n" for n in range(40)) + "no newline"
    asked = [query for key, query in script.asked if key == "log"]
    assert "sinceTime" not in asked[0]
    assert asked[1]["sinceTime"].startswith("2026-11-22T")
    assert [query.get("follow") for query in asked] == ["true", "true", "true", None]


def test_a_pod_that_is_gone_ends_its_log(serve: Any) -> None:
    cluster, _ = serve({"p": [lambda s, _: s.say(404, {"code": 404, "message": "gone"})]})
    with Feed(cluster) as feed:
        feed.log("log", "p", "c")
        assert pieces(taken(feed, ended)) == b""


def test_long_lines_lose_the_stamps_of_their_parts() -> None:
    stamps = Stamps()
    text = b"x" * 40_000
    stamp = b"2026-11-22T13:00:00.123456789Z "
    cut = stamp + text[:16384] + stamp + text[16384:32768] + stamp + text[32768:]
    assert stamps.feed(cut + b"\n" + stamped(1, "next")) == text + b"\nnext\n"


def test_times_to_the_nanosecond() -> None:
    assert nanoseconds(b"1970-01-01T00:00:01.000000002Z") == 1_000_000_002
    assert nanoseconds(b"1970-01-01T02:00:01.5+02:00") == 1_500_000_000
    with pytest.raises(ValueError, match="unable"):
        nanoseconds(b"unable")


def test_a_request_rides_out_a_restart_and_is_not_made_twice(serve: Any) -> None:
    there = {"metadata": {"name": "s", "uid": "1"}}
    answers = {
        "version": [lambda s, _: s.say(200, {"gitVersion": "v1"})],
        "secrets": [
            lambda s, _: s.connection.shutdown(socket.SHUT_RDWR),
            lambda s, _: s.say(503, {"code": 503, "message": "starting"}),
            lambda s, _: s.say(409, {"code": 409, "reason": "AlreadyExists", "message": "there"}),
        ],
        "s": [lambda s, _: s.say(200, there)],
    }
    cluster, _ = serve(answers)
    cluster.request("GET", "/version")
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    assert cluster.create(manifest) == there
    with pytest.raises(ApiError) as refused:
        cluster.create(manifest)
    assert refused.value.reason == "AlreadyExists"


def test_a_change_is_made_again_after_a_conflict(serve: Any) -> None:
    found = {"metadata": {"name": "s"}, "count": 1}
    conflict = {"code": 409, "reason": "Conflict", "message": "modified"}
    answers = {
        "s": [
            lambda s, _: s.say(200, found),
            lambda s, _: s.say(409, conflict),
            lambda s, _: s.say(200, {**found, "count": 5}),
            lambda s, _: s.say(200, {**found, "count": 6}),
        ]
    }
    cluster, _ = serve(answers)
    seen = []
    made = cluster.rewrite("Secret", "s", lambda resource: seen.append(resource["count"]))
    assert seen == [1, 5]
    assert made == {**found, "count": 6}


def test_configurations_that_cannot_be_used(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(TargetError, match="no usable Kubernetes configuration"):
        Cluster.connect({"kubeconfig": str(tmp_path / "none")})
    config = tmp_path / "config"
    config.write_text("apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n")
    with pytest.raises(TargetError, match="no usable"):
        Cluster.connect({"kubeconfig": str(config), "context": "other"})

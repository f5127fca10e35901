"""Replicas share requests as nearly as asked with as few as possible."""

from __future__ import annotations

import socket

import pytest

from kaptain_magics.targets.kubernetes.endpoints import portforward, traffic
from tests.servers import drain


@pytest.mark.parametrize(
    ("percent", "at_least", "expected"),
    [
        (50, 1, (1, 1)),
        (30, 1, (2, 1)),
        (60, 1, (2, 3)),
        (20, 1, (4, 1)),
        (10, 1, (7, 1)),
        (5, 1, (9, 1)),
        (90, 1, (1, 7)),
    ],
)
def test_split(percent: int, at_least: int, expected: tuple[int, int]) -> None:
    assert traffic.split(percent, at_least) == expected


@pytest.mark.parametrize("percent", range(1, 100))
def test_every_split_keeps_both_and_is_near(percent: int) -> None:
    for at_least in (1, 2, 5):
        stable, canary = traffic.split(percent, at_least, 20)
        assert stable >= at_least
        assert canary >= 1
        if 5 <= percent <= 70:
            assert abs(canary / (stable + canary) - percent / 100) <= 0.1


def test_few_replicas_may_be_all_there_are() -> None:
    assert traffic.split(10, 1, 2) == (1, 1)
    assert traffic.split(30, 4, 4) == (4, 1)


def test_shares_add_up() -> None:
    assert traffic.shares({"a": 2, "b": 1}) == {"a": 67, "b": 33}
    assert traffic.shares({"a": 1, "b": 0}) == {"a": 100}
    assert traffic.shares({"a": 0}) == {}


def test_turns_are_even() -> None:
    choose = portforward.take_turns()
    first = [choose(["a", "b", "c"])[0] for _ in range(30)]
    assert {pod: first.count(pod) for pod in "abc"} == {"a": 10, "b": 10, "c": 10}
    assert choose([]) == []


@pytest.mark.parametrize(
    "sent",
    [
        b"Transfer-Encoding: chunked\r\n\r\n%b\r\n%b\r\n0\r\n\r\n" % (size, b"a" * 16)
        for size in (b"-5", b"+10", b"0x10", b"1_0", b"", b"zz")
    ]
    + [b"Content-Length: -1\r\n\r\n", b"Content-Length: 1_0\r\n\r\n" + b"a" * 10],
)
def test_what_could_be_read_in_two_ways_is_refused(sent: bytes) -> None:
    forward = portforward.Forward(None, list, list, 1)  # type: ignore[arg-type]  # it is not asked
    try:
        with socket.create_connection(forward.server_address[:2], timeout=30) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + sent)
            assert drain(connection).startswith(b"HTTP/1.1 400 ")
    finally:
        forward.close()

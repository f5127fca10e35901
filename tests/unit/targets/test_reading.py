"""What targets read from a job: metrics on its output, its channel, why it failed, whole characters."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.core.events import ArtifactSaved, MetricReported, Noted
from kaptain_magics.targets.reading import ChannelReader, MetricScanner, explain, unfinished


def found(scanner: MetricScanner, *pieces: bytes) -> list[tuple[str, float]]:
    events = [event for piece in pieces for event in scanner.feed(piece)] + list(scanner.finish())
    return [(event.name, event.value) for event in events]


TEXT = b"epoch 1: accuracy=0.5, loss = 1e-3 my.accuracy=9\nSVC(accuracy=7)\n accuracy = 0.9 \r\nloss=-3e2"


def test_metrics_that_are_looked_for_by_name() -> None:
    metrics = [("accuracy", 0.5), ("loss", 0.001), ("accuracy", 0.9), ("loss", -300.0)]
    assert found(MetricScanner(["accuracy", "loss"]), TEXT) == metrics


def test_without_names_the_same_lines_count() -> None:
    metrics = [("accuracy", 0.5), ("loss", 0.001), ("my.accuracy", 9.0), ("accuracy", 0.9), ("loss", -300.0)]
    assert found(MetricScanner(), TEXT) == metrics


@given(st.lists(st.integers(0, 40), max_size=6))
def test_lines_may_be_cut_anywhere(cuts: list[int]) -> None:
    text = b"accuracy=0.25\nnothing\naccuracy=0.75\nend"
    places = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert found(MetricScanner(["accuracy"]), *pieces) == [("accuracy", 0.25), ("accuracy", 0.75)]


def test_the_channel_ignores_what_is_none_of_its_lines() -> None:
    lines = [
        {"kind": "metric", "name": "a", "value": 1, "step": 3},
        {"kind": "artifact", "uri": "file:///m", "files": {"x": "00"}, "size": 5},
        {"kind": "note", "text": "hello"},
        {"kind": "metric"},
        {"kind": "other"},
        [1],
        5,
        "text",
        None,
        {"kind": "metric", "name": "a", "value": 1, "step": []},
        {"kind": "artifact", "uri": "file:///m", "files": 5},
    ]
    malformed = b'{"kind":"artifact","uri":"x","size":1e400}\n' + b"[" * 100_000 + b"\n"
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + malformed + b"garbage\n\xff\n{"
    reader = ChannelReader()
    events = [event for i in range(0, len(data), 7) for event in reader.feed(data[i : i + 7])]
    assert [type(event) for event in events] == [MetricReported, ArtifactSaved, Noted]


@given(st.text(max_size=30))
def test_a_cut_character_waits_for_its_end(text: str) -> None:
    data = text.encode()
    for place in range(len(data) + 1):
        whole = place - unfinished(data[:place])
        assert data[:whole].decode() + data[whole:].decode() == text


@pytest.mark.parametrize(
    ("code", "log", "reason", "hint"),
    [
        (1, "Traceback ...\nValueError: bad\n", "the script raised ValueError: bad", ""),
        (1, "ModuleNotFoundError: No module named 'xgb.core'", "No module named", "--requirements xgb"),
        (1, "FileNotFoundError: [Errno 2] data.csv", "FileNotFoundError", "--files"),
        (1, "kaptain: `c` is missing", "`c` is missing", ""),
        (3, "giving up", "exit code 3: giving up", ""),
        (3, "", "exit code 3", ""),
        (120, "half a li", "could not be written", "disk is full"),
        (1, "OSError: [Errno 28] No space left on device", "No space left", "disk is full"),
        (1, "EOFError: EOF when reading a line", "asked for input, and a run has no keyboard", "--env NAME"),
        (1, '  File "getpass.py", line 148, in _raw_input\nEOFError', "a run has no keyboard", "--env NAME"),
        (1, "EOFError: Ran out of input", "the script raised EOFError: Ran out of input", ""),
        (-9, "", "signal 9 (SIGKILL", ""),
        (137, "", "signal 9 (SIGKILL", ""),
        (-11, "", "SIGSEGV", ""),
        (130, "KeyboardInterrupt\n", "KeyboardInterrupt", ""),
    ],
)
def test_a_failure_is_explained(code: int, log: str, reason: str, hint: str) -> None:
    said, next_step = explain(code, log)
    assert reason in said
    assert hint in next_step

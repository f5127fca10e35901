"""Output of a remote job: whatever way it is cut into pieces, it means the same."""

from __future__ import annotations

import json
import random

from kaptain_magics.core.events import ArtifactSaved, Event, LogWritten, MetricReported
from kaptain_magics.targets.output import OutputReader


def fact(**fields: object) -> bytes:
    return b"::kaptain::" + json.dumps(fields).encode() + b"\n"


def read(pieces: list[bytes], **options: object) -> list[Event]:
    reader = OutputReader(**options)  # type: ignore[arg-type]
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.finish()]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, LogWritten))


def cut(data: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    pieces = []
    while data:
        size = chance.randint(1, 40)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


OUTPUT = (
    "Grüße 🚀\naccuracy=0.25\n:: no mark ::kapta\nprogress 50%".encode()
    + fact(kind="metric", name="loss", value=0.5, step=3, time=12.0)
    + b"loss=0.5\nplain loss=0.75\n::kaptain::not json\n"
    + fact(kind="artifact", uri="s3://b/k", files={"m": "0a"}, size=7, format="joblib", time=13.0)
    + fact(kind="fetched", path="/kaptain/fetched.pkl")
    + "raw \udcff end ü".encode("utf-8", "surrogateescape")
)
LOG = (
    "Grüße 🚀\naccuracy=0.25\n:: no mark ::kapta\nprogress 50%loss=0.5\nplain loss=0.75\n"
    "::kaptain::not json\nraw \ufffd end ü"
)


def test_any_cut_gives_the_same_log_and_facts() -> None:
    for seed in range(50):
        events = read(cut(OUTPUT, seed), metric_names=("loss", "accuracy"))
        assert text(events) == LOG
        metrics = [(e.name, e.value, e.step) for e in events if isinstance(e, MetricReported)]
        assert metrics == [("accuracy", 0.25, None), ("loss", 0.5, 3), ("loss", 0.75, None)]
        assert [e.uri for e in events if isinstance(e, ArtifactSaved)] == ["s3://b/k"]
        cursors = [event.cursor for event in events]
        assert cursors == sorted(cursors)
        assert cursors[-1] == len(OUTPUT)


def test_reading_goes_on_behind_any_cursor() -> None:
    for seed in range(20):
        events = read(cut(OUTPUT, seed))
        for number, event in enumerate(events):
            rest = read([OUTPUT], after=event.cursor)
            assert text(events[: number + 1]) + text(rest) == LOG


def test_fetched_variables_are_no_event() -> None:
    reader = OutputReader()
    assert list(reader.feed(fact(kind="fetched", path="/x/fetched.pkl"))) == []
    assert reader.fetched == "/x/fetched.pkl"


def test_the_end_of_the_log_explains_a_failure() -> None:
    reader = OutputReader()
    for number in range(5000):
        list(reader.feed(f"line {number}\n".encode()))
    assert reader.tail.endswith("line 4999\n")
    assert len(reader.tail) <= 16 * 1024


def test_marked_lines_that_are_no_facts_are_log() -> None:
    written = "".join(
        f"::kaptain::{text}\n" for text in ("[1]", "5", "null", '{"kind":"metric","name":"a"}', "[" * 9999)
    )
    written += '::kaptain::{"kind":"artifact","uri":"x","size":1e400}\n'
    reader = OutputReader()
    events = [*reader.feed(written.encode()), *reader.finish()]
    assert "".join(event.text for event in events if isinstance(event, LogWritten)) == written
    assert all(isinstance(event, LogWritten) for event in events)

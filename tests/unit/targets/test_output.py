"""Output of a remote job: whatever way it is cut into pieces, it means the same."""

from __future__ import annotations

import json
import random

import pytest

from kaptain_magics.core.events import ArtifactSaved, Event, LogWritten, MetricReported, Noted
from kaptain_magics.targets.output import OutputReader
from kaptain_magics.targets.reading import ChannelReader


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
    + b"loss=0.5\nloss=0.75\nnot loss=0.8\n::kaptain::not json\n"
    + fact(kind="artifact", uri="s3://b/k", files={"m": "0a"}, size=7, format="joblib", time=13.0)
    + fact(kind="fetched", sha256="0a" * 32)
    + "raw \udcff end ü".encode("utf-8", "surrogateescape")
)
LOG = (
    "Grüße 🚀\naccuracy=0.25\n:: no mark ::kapta\nprogress 50%loss=0.5\nloss=0.75\nnot loss=0.8\n"
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


@pytest.mark.parametrize(
    "uri", ["file:///tmp/elsewhere", "file:///models/1/..", "s3://other/models/1", "file:///models/1/below", "nonsense"]
)
def test_a_job_cannot_say_that_its_model_is_elsewhere(uri: str) -> None:
    reader = OutputReader(upload_uri="file:///models/1")
    (event,) = reader.feed(fact(kind="artifact", uri=uri, files={"model": "00"}))
    assert isinstance(event, Noted)
    assert event.warning
    (saved,) = reader.feed(fact(kind="artifact", uri="file:///models/1", files={"model": "00"}))
    assert isinstance(saved, ArtifactSaved)


@pytest.mark.parametrize(
    "line",
    [b"[1]", b"1", b'"x"', b'{"kind":"artifact","uri":"s3://b/m","size":1e400}', b"[" * 100_000, b'{"kind":"metric"}'],
    ids=range(6),
)
def test_what_is_no_fact_is_the_scripts_own_output(line: bytes) -> None:
    reader = OutputReader()
    assert [type(event) for event in reader.feed(b"::kaptain::" + line + b"\n")] == [LogWritten]
    assert list(ChannelReader().feed(line + b"\n")) == []


def test_fetched_variables_are_no_event() -> None:
    reader = OutputReader()
    assert list(reader.feed(fact(kind="fetched", sha256="0a" * 32))) == []
    assert reader.fetched == "0a" * 32


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

"""A run's stream of events as another version has written it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.events import MetricReported, StateChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.state.run_folders import RunFolder

LINES = b"""{"kind":"metric","seq":1,"time":1.0,"name":"accuracy","value":0.9}
{"kind":"newer","seq":2,"time":2.0,"name":["of","another","type"]}
{"kind":"state","seq":3,"time":3.0,"state":"succeeded","newer":1}
"""


def test_kinds_and_fields_of_newer_versions_are_skipped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.events_path.write_bytes(LINES)
    metric = MetricReported(seq=1, time=1.0, name="accuracy", value=0.9)
    state = StateChanged(seq=3, time=3.0, state=RunState.SUCCEEDED)
    assert list(run.events()) == list(run.follow()) == [metric, state]
    assert list(run.events(after=1)) == list(run.events(after=2)) == [state]
    assert run.last_state() == state


@pytest.mark.parametrize("line", [b'{"kind":"metric","name":1}', b'{"seq":1}', b"[]", b"nonsense"])
def test_what_is_no_event_is_an_error(tmp_path: Path, line: bytes) -> None:
    run = RunFolder(tmp_path)
    run.events_path.write_bytes(line + b"\n")
    with pytest.raises(msgspec.DecodeError):
        list(run.events())

"""Values that were sent are one file for all runs that were sent the same, and go with the last of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaptain_magics.state.sent_values import SENT, SentValues, distinct_size


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / "runs" / name for name in "abc"]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def test_equal_values_are_one_file(tmp_path: Path, runs: list[Path]) -> None:
    values = SentValues(tmp_path)
    for run, data in zip(runs, [b"x" * 1000, b"x" * 1000, b"y" * 500], strict=True):
        values.put(data, run)
    sent = [run / SENT for run in runs]
    assert sent[0].samefile(sent[1])
    assert not sent[0].samefile(sent[2])
    assert [path.read_bytes()[:1] for path in sent] == [b"x", b"x", b"y"]
    assert distinct_size(sent) == 1500
    assert sent[0].stat().st_mode & 0o077 == 0


def test_the_last_run_frees_them(tmp_path: Path, runs: list[Path]) -> None:
    values = SentValues(tmp_path)
    assert values.sweep() == 0
    for run in runs[:2]:
        values.put(b"x" * 1000, run)
    (runs[0] / SENT).unlink()
    assert values.sweep() == 0
    assert (runs[1] / SENT).read_bytes() == b"x" * 1000
    (runs[1] / SENT).unlink()
    assert values.sweep() == 1000
    assert list((tmp_path / "sent").glob("*.pkl")) == []


def test_a_disk_without_links_has_copies(tmp_path: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    values = SentValues(tmp_path)
    for run in runs[:2]:
        values.put(b"x" * 1000, run)
    assert [(run / SENT).read_bytes() for run in runs[:2]] == [b"x" * 1000] * 2
    assert not (runs[0] / SENT).samefile(runs[1] / SENT)

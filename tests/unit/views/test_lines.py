from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.views.lines import LogTail, clean


def tail_of(text: str, *, lines: int = 200, width: int = 500) -> LogTail:
    tail = LogTail(lines, width)
    tail.write(text)
    return tail


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2K\x1b[1Aup", "up"),
        ("10%\r20%\r30%", "30%"),
        ("windows\r", "windows"),
        ("bar 1\rbar 2\r", "bar 2"),
        ("a\tb", "a       b"),
        ("\x00\x07\x1b", "\ufffd\ufffd"),
        ("evil\u202etxt", "evil\ufffdtxt"),
    ],
)
def test_clean_shows_what_a_terminal_would(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_colours_stay_for_terminals_and_nothing_else_does() -> None:
    assert clean("\x1b[1;31mred\x1b[0m\x1b[2J\x1b]0;t\x07", colours=True) == "\x1b[1;31mred\x1b[0m"


def test_lines_may_come_in_pieces() -> None:
    tail = LogTail()
    for piece in ("first li", "ne\nsec", "ond\nthird"):
        tail.write(piece)
    assert tail.total == 2
    assert tail.last(10) == ["first line", "second", "third"]
    assert tail.open_line == "third"


def test_a_progress_bar_is_one_line_in_its_last_state() -> None:
    tail = LogTail()
    for percent in range(101):
        tail.write(f"\r{percent:3d}%|{'#' * percent}|")
    assert tail.open_line.startswith("100%")
    tail.write("\ndone\n")
    assert tail.total == 2
    assert tail.last(2)[0].startswith("100%|###")


def test_a_line_of_ours_ends_an_open_one() -> None:
    tail = tail_of("epoch 1 ... ")
    tail.add("note")
    assert tail.last(5) == ["epoch 1 ... ", "note"]


def test_only_the_end_is_kept_and_all_are_counted() -> None:
    tail = tail_of("".join(f"line {i}\n" for i in range(1000)), lines=50)
    assert tail.total == 1000
    assert tail.last(2) == ["line 998", "line 999"]
    assert tail.since(990) == (0, [f"line {i}" for i in range(990, 1000)])
    missing, lines = tail.since(100)
    assert (missing, len(lines)) == (850, 50)
    assert tail.since(1000) == (0, [])


def test_memory_is_bounded_whatever_comes() -> None:
    tracemalloc.start()
    tail = LogTail()
    garbage = bytes(range(256)) * 256
    for _ in range(200):
        tail.write(garbage.decode("utf-8", "replace").replace("\n", ""))
        tail.write("x" * 65536)
        tail.write("y" * 1000 + "\n" + "\r" * 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000
    assert all(len(line) <= 500 for line in tail.last(300))


@given(st.text(alphabet="ab\n\r\t\x1b[0m;é", max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_where_the_pieces_are_cut_does_not_matter(text: str, cuts: list[int]) -> None:
    whole, pieces = tail_of(text), LogTail()
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    for start, end in pairwise(places):
        pieces.write(text[start:end])
    assert pieces.total == whole.total == text.count("\n")
    assert pieces.last(300) == whole.last(300)


@given(st.binary(max_size=400))
def test_nothing_breaks_it_and_nothing_harmful_is_left(data: bytes) -> None:
    shown = "\n".join(tail_of(data.decode("utf-8", "replace")).last(300))
    assert not any(ord(c) < 32 and c != "\n" for c in shown)
    assert "\x1b" not in shown

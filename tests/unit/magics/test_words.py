"""A line is split as a POSIX shell splits it, with comments, brackets and sane backslashes."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.error import UsageError

from kaptain_magics.magics.words import split


def texts(line: str) -> list[str]:
    return [word.text for word in split(line)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   \t ", []),
        ("a  b\tc", ["a", "b", "c"]),
        ("'a b' \"c d\"", ["a b", "c d"]),
        ("--g='x y'", ["--g=x y"]),
        ("a'b'\"c\"d", ["abcd"]),
        ("''", [""]),
        (r'"say \"hi\" \\ \n"', [r'say "hi" \ \n']),
        (r"'a\b'", [r"a\b"]),
        (r"a\ b \'c \# \\", ["a b", "'c", "#", "\\"]),
        (r"--file C:\data\new\train.py", ["--file", r"C:\data\new\train.py"]),
        ("C:\\", ["C:\\"]),
        ("a # comment 'with an open quote", ["a"]),
        ("#", []),
        ("a#b c", ["a#b", "c"]),
        ("a # one\nb # two\nc", ["a", "b", "c"]),
        ("c=Double(0.01, 1) d=2", ["c=Double(0.01, 1)", "d=2"]),
        ("k=Categorical(['a b', \"c)\"])", ["k=Categorical(['a b', \"c)\"])"]),
        ("k=Discrete([1, # one\n 2])", ["k=Discrete([1, # one\n 2])"]),
        ("'c=Double(0.01, 1)'", ["c=Double(0.01, 1)"]),
        ("data(1).csv :)", ["data(1).csv", ":)"]),
        ("{'a': 1}", ["{'a': 1}"]),
        (r"\(", ["("]),
        ("größe=1 名=2", ["größe=1", "名=2"]),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert texts(line) == words


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 'b c", "the quote in 'b c is never closed: add '"),
        ('--x="', "never closed"),
        ("c=Double(1, 2", "'(' is never closed in c=Double(1,"),
        ("k=Categorical(['a', 'b)", "never closed"),
        ("x=[1)", "')' is unmatched"),
        ("x=(1 # 2)", "'(' is never closed"),
    ],
)
def test_what_is_never_closed_is_one_line(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        split(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_know_their_place() -> None:
    line = "predict  'dev/a' X[0, 'b'] + 1"
    assert [line[w.start : w.end] for w in split(line)] == ["predict", "'dev/a'", "X[0, 'b']", "+", "1"]


@settings(max_examples=500)
@given(st.text(alphabet="ab '\"\t=-.,:/\n", max_size=30))
def test_without_brackets_and_backslashes_it_is_a_shells_split(line: str) -> None:
    try:
        expected = shlex.split(line)
    except ValueError:
        with pytest.raises(UsageError):
            split(line)
    else:
        assert texts(line) == expected


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\\\0"), max_size=10), max_size=5))
def test_quoted_words_survive(words: list[str]) -> None:
    assert texts(" ".join(shlex.quote(word) for word in words)) == words


@settings(max_examples=500)
@given(st.text(max_size=60))
def test_any_text_is_words_or_one_line(line: str) -> None:
    try:
        split(line)
    except UsageError as error:
        said = str(error)
    else:
        return
    assert said.count("\n") == 0

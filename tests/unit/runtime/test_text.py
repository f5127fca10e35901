from __future__ import annotations

import pytest

from kaptain_magics.runtime.text_values import is_true, shorten, truth_of


@pytest.mark.parametrize("text", ["1", "true", "True", "YES", "y", "on", " on "])
def test_words_for_true(text: str) -> None:
    assert truth_of(text) is True
    assert is_true(text)


@pytest.mark.parametrize("text", ["0", "false", "No", "n", "OFF"])
def test_words_for_false(text: str) -> None:
    assert truth_of(text) is False
    assert not is_true(text)


@pytest.mark.parametrize("text", ["", "maybe", "2", "truee"])
def test_other_texts_have_no_truth_value(text: str) -> None:
    assert truth_of(text) is None
    assert not is_true(text)


def test_a_long_text_is_shortened_to_one_line() -> None:
    assert shorten("a  short\ntext") == "a short text"
    assert shorten("x" * 100, 10) == "x" * 9 + "…"

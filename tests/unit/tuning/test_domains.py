"""Domains that cannot be used are refused when they are written, whatever is in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.core.domains import Categorical, Discrete, Double, Integer
from kaptain_magics.errors import DomainError

BAD = [
    lambda: Double(1, 0),
    lambda: Double(0, float("nan")),
    lambda: Double(0, float("inf")),
    lambda: Double(0, 10**400),
    lambda: Double(0, 1, log=True),
    lambda: Double(0, 1, step=0),
    lambda: Double(0.1, 1, log=True, step=0.1),
    lambda: Double("0", 1),
    lambda: Double(True, 1),
    lambda: Integer(0, 10**400),
    lambda: Integer(0, 1.5),
    lambda: Integer(3, 2),
    lambda: Integer(0, 9, step=0.5),
    lambda: Discrete([]),
    lambda: Discrete("123"),
    lambda: Discrete(["a"]),
    lambda: Discrete(["nan"]),
    lambda: Discrete(["1e999"]),
    lambda: Discrete([10**400]),
    lambda: Discrete([1, 1]),
    lambda: Discrete(None),
    lambda: Categorical([]),
    lambda: Categorical([None, "None"]),
    lambda: Categorical([[]]),
    lambda: Categorical([{"a": 1}]),
    lambda: Categorical([(64, 64), "(64, 64)"]),
    lambda: Categorical([float("nan")]),
    lambda: Categorical(["a", "a"]),
]


@pytest.mark.parametrize("make", BAD, ids=range(len(BAD)))
def test_bad_domains(make) -> None:
    with pytest.raises(DomainError) as raised:
        make()
    assert raised.value.hint


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**400)


@given(st.sampled_from([Double, Integer]), anything, anything, st.booleans(), anything)
def test_numbers_are_usable_or_refused(kind, low, high, log, step) -> None:
    try:
        domain = kind(low, high, log=log, step=step)
    except DomainError:
        return
    assert domain.contains(low)
    assert domain.contains(high)


@given(st.sampled_from([Discrete, Categorical]), st.lists(anything, max_size=4) | anything)
def test_lists_are_usable_or_refused(kind, values) -> None:
    try:
        domain = kind(values)
    except DomainError:
        return
    assert all(domain.contains(value) for value in values)

"""Domains become axes and come back as values of the user's types."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Double, Integer
from kaptain_magics.tuning.space import ContinuousAxis, DiscreteAxis, Space, axis_of

_finite = st.floats(allow_nan=False, allow_infinity=False)
_positive = st.floats(min_value=1e-300, max_value=1e300)


@st.composite
def doubles(draw: st.DrawFn) -> Double:
    log = draw(st.booleans())
    low, high = sorted(draw(st.tuples(*[_positive if log else _finite] * 2)))
    step = None if log else draw(st.none() | st.floats(min_value=1e-12, max_value=1e12))
    return Double(low, high, log=log, step=step)


@st.composite
def integers(draw: st.DrawFn) -> Integer:
    log = draw(st.booleans())
    low, high = sorted(draw(st.tuples(*[st.integers(1 if log else -(10**20), 10**20)] * 2)))
    return Integer(low, high, log=log, step=None if log else draw(st.none() | st.integers(1, 10**6)))


def lists(value: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(value, min_size=1, max_size=8, unique_by=lambda v: (type(v), v))


domains = st.one_of(
    doubles(),
    integers(),
    lists(st.integers(-99, 99) | st.floats(-9, 9) | st.integers(0, 99).map(str)).map(Discrete),
    lists(st.text(max_size=5) | st.integers()).map(Categorical),
)


@given(domains, st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_every_point_is_a_value_of_the_domain_and_finds_its_way_back(domain: AnyDomain, seed: int) -> None:
    space = Space({"--x": domain})
    point = space.draw(random.Random(seed))
    values = space.values(point)
    assert list(values) == ["--x"]
    value = values["--x"]
    assert domain.contains(value)
    match domain:
        case Integer():
            assert type(value) is int
            assert (value - domain.min) % (domain.step or 1) == 0
        case Double():
            assert type(value) is float
        case Discrete() | Categorical():
            assert any(value is v or (type(value), value) == (type(v), v) for v in domain.values)
    again = space.point(values)
    assert again is not None
    assert again.keys() == point.keys()
    if isinstance(axis_of(domain), DiscreteAxis) and not isinstance(domain, Discrete):  # "1" and 1 may be one number
        assert again == point


@given(domains)
@settings(max_examples=200, deadline=None)
def test_both_ends_of_an_axis_are_values(domain: AnyDomain) -> None:
    axis = axis_of(domain)
    ends = (0.0, 1.0) if isinstance(axis, ContinuousAxis) else (0, len(axis.values) - 1)
    assert all(domain.contains(axis.value(end)) for end in ends)
    if isinstance(domain, (Double, Integer)):
        assert axis.value(0) == domain.min
        if domain.step is None:
            assert axis.value(ends[1]) == domain.max


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (Double(0.1, 0.5, step=0.1), [0.1, 0.2, 0.3, 0.4, 0.5]),
        (Double(0, 1, step=0.3), [0.0, 0.3, 0.6, 0.9]),
        (Double(0, 0.6666666666666666, step=0.3333333333333333), [0.0, 0.333333333333, 0.6666666666666666]),
        (Integer(1, 10, step=4), [1, 5, 9]),
        (Integer(-1, 1), [-1, 0, 1]),
        (Discrete(["10", "5", "7.5"]), ["5", "7.5", "10"]),
        (Categorical(["rbf", "linear"]), ["rbf", "linear"]),
    ],
)
def test_countable_domains(domain: AnyDomain, values: list[object]) -> None:
    axis = axis_of(domain)
    assert isinstance(axis, DiscreteAxis)
    assert list(axis.values) == values
    assert axis.ordered is not isinstance(domain, Categorical)
    assert [axis.position(v) for v in axis.values] == list(range(len(values)))


def test_a_logarithmic_axis_is_even_in_powers() -> None:
    axis = axis_of(Double(1e-4, 1e-2, log=True))
    assert axis.value(0.5) == pytest.approx(1e-3)
    whole = axis_of(Integer(1, 1000, log=True))
    drawn = [whole.value(i / 1000) for i in range(1001)]
    assert drawn.count(1) > 20 * drawn.count(20) > 0
    assert set(map(type, drawn)) == {int}


def test_a_domain_with_one_value_is_no_axis() -> None:
    space = Space({"a": Discrete(["5"]), "b": Double(1, 1), "c": Integer(0, 1), "d": Double(0, 1, step=2)})
    assert list(space.axes) == ["c"]
    assert space.values({"c": 1}) == {"a": "5", "b": 1.0, "c": 1, "d": 0.0}


def test_values_outside_the_space_have_no_point() -> None:
    space = Space({"a": Categorical(["x", "y"]), "b": Double(0, 1)})
    assert space.point({"a": "z", "b": 0.5}) is None
    assert space.point({"b": 0.5}) is None
    assert space.point({"a": "x", "b": "much"}) is None
    assert space.point({"a": "y", "b": 0.25, "other": 3}) == {"a": 1, "b": 0.25}

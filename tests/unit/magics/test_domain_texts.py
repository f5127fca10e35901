"""Domains are read from what is typed, and nothing that is typed is ever run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.error import UsageError

from kaptain_magics.core.domains import AnyDomain, Categorical, Condition, Discrete, Double, Integer
from kaptain_magics.errors import DomainError, KaptainError
from kaptain_magics.magics.domain_texts import read_cell, read_domain


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Double(1e-4,1e-3)", Double(1e-4, 1e-3)),
        ("Double(1e-4, 1e-3, log=True)", Double(1e-4, 1e-3, log=True)),
        (" Double( -1 , +2.5 ) ", Double(-1, 2.5)),
        ("Double(min=0, max=1, step=0.1)", Double(0, 1, step=0.1)),
        ("Double(min=0.0001, max=0.001, log=False, step=None)", Double(1e-4, 1e-3)),
        ("Integer(1, 10, step=3)", Integer(1, 10, step=3)),
        ("Integer(1, 1024, True)", Integer(1, 1024, log=True)),
        ("Discrete([1, 2.5, '10'])", Discrete((1, 2.5, "10"))),
        ("Discrete((16, 32))", Discrete((16, 32))),
        ("Categorical(['rbf', \"li near\", -1])", Categorical(("rbf", "li near", -1))),
        ("Categorical(values=['a',\n  'b', # second\n])", Categorical(("a", "b"))),
    ],
)
def test_domains(text: str, domain: AnyDomain) -> None:
    assert read_domain("x", text) == domain


BAD = [
    ("", "cannot be read"),
    ("0.1", "is a value, not a domain\nDiscrete([0.1]) searches just this value"),
    ("-3", "Discrete([-3])"),
    ("'rbf'", "is a value"),
    ("1e-4,1e-3", "is not a domain"),
    ("gamma", "is not a domain"),
    ("Double", "needs its values"),
    ("Duoble(1, 2)", "did you mean 'Double'?"),
    ("double(1, 2)", "did you mean 'Double'?"),
    ("np.Double(1, 2)", "unknown domain 'np.Double'"),
    ("Double()", "Double needs min and max"),
    ("Double(1)", "Double needs min and max"),
    ("Double(1, 2, True, 3, 4)", "takes min, max, log, step"),
    ("Double(2, 1)", "write the smaller bound first: Double(1.0, 2.0)"),
    ("Double(0, 1, log=True)", "bounds above 0"),
    ("Double(1, 2, log=1)", "must be True or False"),
    ("Double(1, 2, log='yes')", "must be True or False"),
    ("Double(1, 2, lg=True)", "did you mean 'log'?"),
    ("Double(1, 2, max=3)", "two values for max"),
    ("Double(1, 2, **x)", "has no **"),
    ("Double(*x)", "takes min, max"),
    ("Double('a', 'b')", "is not a finite number"),
    ("Double(1e999, 2)", "is not a finite number"),
    ("Double(1, 2, step=0)", "not above 0"),
    ("Double(None, 2)", "is not a finite number"),
    ("Double(10**-3, 1)", "without arithmetic"),
    ("Double(x, 1)", "x is a name"),
    ("Double(__import__('os').getpid(), 1)", "is not a plain value"),
    ("Integer(1.5, 3)", "use Double"),
    ("Integer(True, 3)", "is not a finite number"),
    ("Discrete([])", "needs a list of values"),
    ("Discrete(3)", "needs a list of values"),
    ("Discrete('abc')", "needs a list of values"),
    ("Discrete([1, 1])", "duplicate value"),
    ("Discrete(['a'])", "use Categorical"),
    ("Double(1, 2) if a or b", "a or b is not a condition"),
    ("Double(1, 2) if 1 < a < 3", "is not a condition"),
    ("Double(1, 2) if a == b", "b is a name"),
    ("Double(1, 2) if a == 1 else 3", "there is no else"),
    ("Double(1, 2) if", "cannot be read"),
    ("Discrete([[1]])", "'(1,)' is not a number"),
    ("Categorical([()])", "neither a number nor a text"),
    ("Categorical([rbf, linear])", "or 'rbf' for a text"),
    ("Categorical(['a'] * 2)", "without arithmetic"),
    ("Categorical({'a': 1})", "is not a plain value"),
    ("Categorical([1j])", "is not a plain value"),
    ("Categorical(['a', 'a'])", "duplicate value"),
    ("Double(1, 2", "cannot be read"),
    ("Double(1, 2))", "cannot be read"),
    ("lambda: 1", "is not a domain"),
    ("Double(" + "(" * 500 + "1" + ")" * 500 + ", 2)", "cannot be read"),
    ("Categorical([" + "1," * 20_000 + "])", "characters long"),
]


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("if kernel == 'rbf'", (Condition("kernel", "==", ("rbf",)),)),
        ("if svc.kernel in ['rbf', None]", (Condition("svc.kernel", "in", ("rbf", "None")),)),
        ("if n > 2 and not warm", (Condition("n", ">", (2,)), Condition("warm", "==", ("false",)))),
        ("if layers == (64, 64)", (Condition("layers", "==", ("(64, 64)",)),)),
        ("if warm and n != -1", (Condition("warm", "==", ("true",)), Condition("n", "!=", (-1,)))),
    ],
)
def test_conditions_stand_behind_if(text: str, conditions: tuple[Condition, ...]) -> None:
    assert read_domain("gamma", f"Double(0.1, 1) {text}") == Double(0.1, 1, conditions=conditions)
    assert read_cell(f"gamma = Double(0.1, 1) {text}  # only then\n") == {
        "gamma": Double(0.1, 1, conditions=conditions)
    }


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_domains_are_refused_with_the_next_step(text: str, message: str) -> None:
    with pytest.raises(DomainError) as caught:
        read_domain("gamma", text)
    assert message in str(caught.value)
    assert caught.value.message.startswith("gamma: ")
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) == 2
    assert max(map(len, str(caught.value).splitlines())) < 200


def test_a_cell_of_domains() -> None:
    cell = """
# kernel coefficient
gamma = Double(1e-4, 1e-3, log=True)  # log scale

c = Double(0.01, 1),
--kernel = Categorical([
    'rbf',  # it's the default
    "a # b",
])
learning-rate=Double(1, 2)
"""
    assert read_cell(cell) == {
        "gamma": Double(1e-4, 1e-3, log=True),
        "c": Double(0.01, 1),
        "--kernel": Categorical(("rbf", "a # b")),
        "learning-rate": Double(1, 2),
    }


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "the cell has no domains"),
        ("# nothing\n", "the cell has no domains"),
        ("import os", "line 1 of the cell: 'import os'"),
        ("a = Double(1, 2)\na = Double(1, 3)", "line 2 of the cell: a is given twice"),
        ("a = Double(1, 2)\nfor x in y: pass", "line 2 of the cell"),
        ("a = Double(1,\n2", "cannot be read"),
        ("a = 3", "is a value, not a domain"),
        ("a = Double(1, 2); b = 3", "cannot be read"),
    ],
)
def test_bad_cells_of_domains(cell: str, message: str) -> None:
    with pytest.raises((UsageError, DomainError)) as caught:
        read_cell(cell)
    assert message in str(caught.value)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["Double", "Integer", "Discrete", "Categorical", "(", ")", "[", "]", ",", "1", "-", "'a'", "log="]
        )
        | st.sampled_from(
            ["True", "None", "1e-3", "step=", "min=", "\n", "#", "=", "x", "**", "*", "{", "}", "1e400", "'"]
        )
        | st.text(max_size=4),
        max_size=12,
    ).map("".join)
)
def test_any_text_is_a_domain_or_an_error(text: str) -> None:
    for read in (lambda: read_domain("x", text), lambda: read_cell(f"x = {text}")):
        try:
            read()
        except (UsageError, KaptainError) as error:
            said = str(error)
        else:
            continue
        assert said

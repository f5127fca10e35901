"""What a launcher puts into a script."""

from __future__ import annotations

import ast

import pytest

from kaptain_magics.core.domains import Categorical
from kaptain_magics.runtime.launch import CaptureError, substitute


@pytest.mark.parametrize(
    ("default", "given", "expected"),
    [
        ("True", 0, "False"),
        ("False", 1, "True"),
        ("True", "false", "False"),
        ("False", "True", "True"),
        ("True", "no", "False"),
        ("True", "off", "False"),
        ("False", "Yes", "True"),
        ("False", "on", "True"),
        ("'on'", "yes", "'yes'"),
        ("True", "sometimes", "'sometimes'"),
        ("1", 0, "0"),
        ("'true'", "false", "'false'"),
        ("None", 1, "1"),
        ("None", "None", "None"),
        ("None", "sqrt", "'sqrt'"),
        ("-5", "None", "None"),
        ("'None'", "None", "'None'"),
    ],
)
def test_a_word_means_what_the_script_has_there(default: str, given: object, expected: str) -> None:
    tree = substitute(ast.parse(f"before = 2\nflag: object = {default}\n"), {"flag": given})
    assert ast.unparse(tree) == f"before = 2\nflag: object = {expected}"


def test_only_the_first_assignment_is_replaced() -> None:
    tree = substitute(ast.parse("x = 1\nx = x + 1\n"), {"x": 5})
    assert ast.unparse(tree) == "x = 5\nx = x + 1"
    with pytest.raises(CaptureError, match="no plain value named y, z"):
        substitute(ast.parse("x = 1"), {"z": 1, "y": 2})


def test_words_are_searched_as_a_command_line_has_them() -> None:
    assert Categorical([True, False, None]).values == ("true", "false", "None")  # type: ignore[list-item]

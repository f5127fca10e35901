"""``%kaptain_train NAME`` as a cell's first line is the cell magic, with all line numbers as they are."""

from __future__ import annotations

import pytest

from kaptain_magics.magics.owncell import capture_own_cell

CODE = "x = 1\nprint(x)\n"


def transformed(cell: str) -> str:
    return "".join(capture_own_cell(cell.splitlines(keepends=True)))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%kaptain_train a g=1\n" + CODE, "%%kaptain_train a g=1\n" + CODE),
        ("# why\n\n%kaptain_train a\n" + CODE, "%%kaptain_train a\n# why\n\n" + CODE),
        ("%kaptain_train a \\\n  --cpu 1\n" + CODE, "%%kaptain_train a \\\n  --cpu 1\n" + CODE),
        ("# why\n%kaptain_train a \\\n --cpu 1\n" + CODE, "%%kaptain_train a \\\n --cpu 1\n# why\n" + CODE),
    ],
)
def test_the_rest_of_the_cell_is_the_script(cell: str, expected: str) -> None:
    assert transformed(cell) == expected
    assert expected.splitlines().index("x = 1") == cell.splitlines().index("x = 1")


@pytest.mark.parametrize(
    "cell",
    [
        "",
        CODE,
        "%kaptain_train\n" + CODE,
        "%kaptain_train a\n",
        "%kaptain_train a\n# only a comment\n",
        "%kaptain_train a --file b.py\n" + CODE,
        "%kaptain_train a --file=b.py\n" + CODE,
        "%kaptain_train a --help\n" + CODE,
        "%kaptain_train_more a\n" + CODE,
        "%%kaptain_train a\n" + CODE,
        CODE + "%kaptain_train a\n",
        "run = %kaptain_train a\n" + CODE,
        "  %kaptain_train a\n" + CODE,
    ],
)
def test_other_cells_are_left_alone(cell: str) -> None:
    assert transformed(cell) == cell

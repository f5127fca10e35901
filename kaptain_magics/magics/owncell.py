"""``%kaptain_train NAME`` as the first line of a cell takes the rest of the cell as its script.

A line magic leaves the cell ordinary Python for linters and editors, which know nothing of what a ``%%`` cell holds.
"""

from __future__ import annotations

import re

_FIRST = r"%kaptain_train\s+\S"
_NO_CAPTURE = r"(?:^|\s)(?:--file|--help|-h|\?)(?:[\s=]|$)"


def capture_own_cell(lines: list[str]) -> list[str]:
    """Turn such a cell into the ``%%kaptain_train`` cell that it stands for; leave all other cells alone.

    Args:
        lines: The cell's lines with their ends.

    Returns:
        The lines; every line of code keeps its number.
    """
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), None)
    if start is None or not re.match(_FIRST, lines[start]):
        return lines
    end = start + 1
    while lines[end - 1].rstrip().endswith("\\") and end < len(lines):
        end += 1
    code = [line for line in lines[end:] if line.strip() and not line.lstrip().startswith("#")]
    if not code or re.search(_NO_CAPTURE, "".join(lines[start:end])):
        return lines
    return ["%" + lines[start], *lines[start + 1 : end], *lines[:start], *lines[end:]]

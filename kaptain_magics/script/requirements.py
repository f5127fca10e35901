"""The packages that a script needs: lines of a pip requirements file, or a list typed in one word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import ScriptError
from kaptain_magics.script.paths import expand

_PACKAGE = re.compile(
    r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?\s*(?:\[[\w\s,.-]*\])?\s*"
    r"(?:@\s*\S+|\(?\s*(?:(?:===|==|~=|!=|<=|>=|<|>)\s*[\w.*+!-]+\s*,?\s*)*\)?)\s*(?:;.+)?"
)
_OPERATOR = re.compile(r"\s*(===|==|~=|!=|<=|>=|<|>|@)\s*")
_NESTED_AT_MOST = 10  # levels of -r: files that name each other end there


def read_requirements(text: str, folder: str | Path = ".") -> tuple[str, ...]:
    """Return the lines of a requirements file, or of a list such as ``numpy,scikit-learn>=1.4``.

    Args:
        text: A path (of a file that exists, or that looks like one), or packages between commas or spaces.
        folder: Where relative paths start.

    Returns:
        One requirement or pip option a line; files named by ``-r`` are read too.

    Raises:
        ScriptError: The file is missing or has an invalid line.
    """
    path = Path(folder) / expand(text.strip())
    if _is_file(path) or text.strip().endswith(".txt") or text.strip().startswith((".", "/", "~")):
        return tuple(_from_file(path, 0))
    lines = tuple(_split(text))
    for line in lines:
        if not _PACKAGE.fullmatch(line):
            raise ScriptError(
                f"--requirements: {line!r} is not a valid requirement", "write numpy,scikit-learn>=1.4 or a file's path"
            )
    return lines


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _split(text: str) -> Iterator[str]:
    """Split at commas and spaces, but not those within extras, version ranges and markers."""
    text = re.sub(r"\s*,\s*(?=[=~!<>])", ",", text)
    for part in re.split(r"\n|,(?![^\[]*\])(?![=~!<>])", text):
        package, semicolon, marker = part.partition(";")
        package = _OPERATOR.sub(r"\1", package.strip())
        if semicolon or "@" in package:
            yield f"{package}{semicolon}{marker}".strip()
        else:
            yield from re.sub(r",\s+", ",", package).split()


def _from_file(path: Path, depth: int) -> Iterator[str]:
    if depth > _NESTED_AT_MOST:
        raise ScriptError(f"{path} includes itself with -r", "remove that line")
    try:
        lines = path.read_text("utf-8").replace("\\\n", " ").splitlines()
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.txt")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, beside) or "write its path, or the packages themselves: numpy,scikit-learn"
        raise ScriptError(f"there is no requirements file {path}", hint) from None
    except UnicodeDecodeError:
        raise ScriptError(f"{path} is not UTF-8 text", "name a pip requirements file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScriptError(f"{path} cannot be read: {reason}", "name a pip requirements file") from None
    for number, raw in enumerate(lines, start=1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        nested = re.fullmatch(r"(?:-r|--requirement)[\s=]+(.+)", line)
        if nested:
            yield from _from_file(path.parent / nested[1], depth + 1)
        elif line.startswith("-") or re.match(r"[\w.+]+://|\.{0,2}/", line):
            yield line
        elif line:
            package = re.split(r"\s--", line)[0]  # options of one requirement, such as --hash
            if not _PACKAGE.fullmatch(package.strip()):
                raise ScriptError(
                    f"{path}, line {number}: {line!r} is not a valid requirement", "write for example numpy>=1.26"
                )
            yield line

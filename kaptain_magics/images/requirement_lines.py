"""Lines of a pip requirements file: what they name, and what of them may leave this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kaptain_magics.core.secrets import PASSWORD_HINT, holds_password, without_passwords
from kaptain_magics.errors import ImageError

_OF_ONE = re.compile(r"\s--?\w")  # where options of one requirement begin, such as --hash
_FILE = re.compile(r"file:[^\s;]+|(?:^|(?<=[\s=@]))(?:~|\.{0,2})/[^\s;]+")


def normalised(name: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(line: str) -> str:
    """Return the normalised name of the package that a line asks for; empty where it does not say."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return normalised(Requirement(bare(line)).name)
    except InvalidRequirement:
        return ""


def bare(line: str) -> str:
    """Return a requirement without its comment and its own options, such as hashes."""
    return _OF_ONE.split(re.sub(r"(?:^|\s)#.*", "", line))[0].strip()


def is_local(line: str) -> bool:
    """Whether a line names a file or a folder of this machine."""
    return _FILE.search(line) is not None


def local_files(lines: Sequence[str]) -> list[Path]:
    """Return the files of this machine that lines name, those in folders for ``--find-links`` included."""
    return [path for line in lines for path in _files(line)]


def _files(line: str) -> Iterator[Path]:
    for match in _FILE.findall(line):
        parts = urlsplit(match)
        path = Path(unquote(parts.path if parts.scheme == "file" else match)).expanduser()
        if path.is_file():
            yield path
        elif path.is_dir() and line.startswith("-"):
            yield from sorted(file for file in path.iterdir() if file.suffix in (".whl", ".gz", ".zip"))


def check_no_password(lines: Sequence[str]) -> None:
    """Make sure that no line holds a password or a token; one in a variable of the environment (``${NAME}``) may stay.

    Raises:
        ImageError: A line does.
    """
    for number, line in enumerate(lines, start=1):
        if holds_password(line):
            raise ImageError(f"line {number} of the requirements holds a password", PASSWORD_HINT)


def shown(lines: Sequence[str]) -> str:
    """Return the packages among lines as they may be shown."""
    return ", ".join(without_passwords(bare(line)) for line in lines if not line.startswith("-"))


def without_paths(lines: Sequence[str]) -> list[str]:
    """Return lines as they may stand in an image: what lies on this machine is a comment with its bare name."""
    return [f"# {_FILE.sub(_last, line)} (a file of another machine)" if is_local(line) else line for line in lines]


def _last(match: re.Match[str]) -> str:
    return match[0].rstrip("/").rpartition("/")[2]

"""Paths as people type them."""

from __future__ import annotations

from pathlib import Path

from kaptain_magics.errors import ScriptError


def expand(path: str | Path) -> Path:
    """Return a path with ``~`` replaced by the home folder.

    Raises:
        ScriptError: It names the home of an unknown user, or has a null byte.
    """
    try:
        if "\0" in str(path):
            raise ValueError("it has a null byte")
        return Path(path).expanduser()
    except (RuntimeError, ValueError) as error:
        raise ScriptError(f"{str(path)!r} is not a valid path: {error}", "write the path of a file or folder") from None

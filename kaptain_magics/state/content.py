"""The content that events bring along: written into files of a run's or a trial's folder, never into the stream."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from kaptain_magics.core.events import Displayed, FileWritten
from kaptain_magics.errors import IntegrityError
from kaptain_magics.files import write_whole

DISPLAYS = "displays"
"""The folder of what a script has shown, below the folder of its run or trial."""

WORK = "work"
"""The job's working folder, below that of its run or trial."""

_E = TypeVar("_E", bound=Displayed | FileWritten)


def keep_content(event: _E, folder: Path) -> _E:
    """Write the content of an event into a run's or a trial's folder.

    Args:
        event: The event as the target has read it.
        folder: The folder.

    Returns:
        The event as it is written down: it names the file instead.

    Raises:
        StateError: The disk is full.
        IntegrityError: The file's name leads out of the folder.
    """
    if isinstance(event, FileWritten):
        write_whole(_inside(folder / WORK, event.path), event.data)
        return msgspec.structs.replace(event, data=b"")
    name = event.file_name
    if not name:  # its text is all that is kept
        return msgspec.structs.replace(event, mime="text/plain", data=b"", size=0)
    write_whole(_inside(folder / DISPLAYS, name), event.data)
    return msgspec.structs.replace(event, data=b"", file=f"{DISPLAYS}/{name}")


def _inside(folder: Path, name: str) -> Path:
    """Return a path below a folder.

    Raises:
        IntegrityError: It leads out of the folder, also by a link.
    """
    parts = PurePosixPath(name).parts
    path = folder.joinpath(*parts)
    if not parts or ".." in parts or PurePosixPath(name).is_absolute() or not _holds(folder, path.parent):
        raise IntegrityError(f"the job names a file outside its folder: {name[:200]}", "it is not written")
    return path


def _holds(folder: Path, path: Path) -> bool:
    return os.path.commonpath([os.path.realpath(folder), os.path.realpath(path)]) == os.path.realpath(folder)

"""What a person notes of a run: a text and tags, in a file of the run's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from kaptain_magics.errors import StateError
from kaptain_magics.files import locked, write_whole

FILE = "labels.json"


class Labels(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's own words on a run.

    Attributes:
        note: A text of any length.
        tags: Words to find it by, in the order in which they were given.
    """

    note: str = ""
    tags: tuple[str, ...] = ()


def read_labels(folder: Path) -> Labels:
    """Return the labels of the run in a folder; empty ones where it has none.

    Raises:
        StateError: The file cannot be read.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Labels)
    except FileNotFoundError:
        return Labels()
    except (OSError, msgspec.MsgspecError) as error:
        raise StateError(f"{path} cannot be read: {error}", "remove the file: it holds a note and tags only") from error


def change_labels(folder: Path, change: Callable[[Labels], Labels]) -> Labels:
    """Read, change and write the labels of the run in a folder in one step, and return the new ones."""
    path = folder / FILE
    with locked(path.with_suffix(".lock")):
        changed = change(read_labels(folder))
        write_whole(path, msgspec.json.encode(changed))
    return changed

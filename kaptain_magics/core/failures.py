"""Why a process failed, as another process reads it: JSON in a file, or in a container's termination message."""

from __future__ import annotations

import re

import msgspec

NO_MODULE = re.compile(r"No module named '([\w.]+)'")  # what Python says of a module that cannot be found


class Failure(msgspec.Struct, frozen=True):
    """A failure.

    Attributes:
        error: What happened, in one sentence and without secrets.
        hint: The next step; empty where there is none.
    """

    error: str
    hint: str = ""

    @classmethod
    def read(cls, text: str | bytes) -> Failure | None:
        """Return the failure that a file holds; ``None`` where it is empty, torn or something else."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            return None

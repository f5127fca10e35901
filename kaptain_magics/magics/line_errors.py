"""Mistakes in a line: one line of text, which stops Run All."""

from __future__ import annotations

import sys
from collections.abc import Iterable


class UsageError(Exception):
    """A wrong line, where there is no IPython."""


class Interrupted(KeyboardInterrupt):
    """The reader interrupted a cell that waited; shown as one line, and Run All stops."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


def usage_error(message: str, hint: str = "") -> Exception:
    """Return the error for a wrong line: IPython's own where it runs, which it shows without a traceback.

    Args:
        message: What is wrong.
        hint: What to write instead.
    """
    text = f"{message}: {hint}" if hint else message
    return usage_errors()[0](" ".join(text.split()))


def usage_errors() -> tuple[type[Exception], ...]:
    """Return the classes of the error for a wrong line."""
    core = sys.modules.get("IPython.core.error")  # its import would take longer than most commands
    return (UsageError,) if core is None else (core.UsageError, UsageError)


def suggest(word: str, choices: Iterable[str], otherwise: str = "") -> str:
    """Return ``did you mean 'x'?`` for the nearest known word, or another hint."""
    from kaptain_magics.core.names import did_you_mean

    return did_you_mean(word, choices) or otherwise

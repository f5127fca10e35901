"""Mistakes in a line: one line of text, which stops Run All."""

from __future__ import annotations

from collections.abc import Iterable

from IPython.core.error import UsageError


class Interrupted(KeyboardInterrupt):
    """The reader interrupted a cell that waited; shown as one line, and Run All stops."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


def usage_error(message: str, hint: str = "") -> Exception:
    """Return IPython's error for a wrong line: it is shown without a traceback.

    Args:
        message: What is wrong.
        hint: What to write instead.
    """
    text = f"{message}: {hint}" if hint else message
    return UsageError(" ".join(text.split()))  # type: ignore[no-any-return]


def suggest(word: str, choices: Iterable[str], otherwise: str = "") -> str:
    """Return ``did you mean 'x'?`` for the nearest known word, or another hint."""
    from kaptain_magics.core.names import did_you_mean

    return did_you_mean(word, choices) or otherwise

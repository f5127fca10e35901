"""What a text means and how it is shown: the words for truth values, and shortening. The one home of both rules."""

from __future__ import annotations

TRUE_WORDS = frozenset({"1", "true", "yes", "y", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "n", "off"})


def truth_of(text: str) -> bool | None:
    """Return the truth value that a text spells, such as ``on`` or ``No``; ``None`` where it spells none."""
    word = text.strip().lower()
    return True if word in TRUE_WORDS else False if word in FALSE_WORDS else None


def is_true(text: str) -> bool:
    """Whether a text, such as the value of an environment variable, spells ``True``."""
    return truth_of(text) is True


def shorten(text: str, longest: int = 60) -> str:
    """Return a text in one line of at most so many characters, the last one an ellipsis where something is left out."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= longest else one_line[: longest - 1] + "…"

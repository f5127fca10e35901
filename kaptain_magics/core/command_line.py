"""How values are spelled on a script's command line."""

from __future__ import annotations

import re
import shlex

_UNQUOTED = re.compile(r"[\w.+/%@?|*-]+")


def option_words(flag: str, text: str) -> tuple[str, ...]:
    """Return an option with its value; a value that begins with a dash would be taken for another option."""
    if not text.startswith("-"):
        return (flag, text)
    return (f"{flag}{text}" if len(flag) == 2 else f"{flag}={text}",)


def split_words(text: str) -> list[str]:
    """Return the words of ``1 2`` or of ``[1, 2]``."""
    bare = text[1:-1].replace(",", " ") if text[:1] + text[-1:] in ("[]", "()") else text
    try:
        return shlex.split(bare)
    except ValueError:  # an apostrophe
        return bare.split()


def override_word(name: str, text: str) -> str:
    """Return ``name=value`` as Hydra and OmegaConf read it: ``null`` for ``None``, lists in ``[]``, texts in quotes."""
    if text == "None":
        return f"{name}=null"
    if text[:1] + text[-1:] in ("[]", "()"):
        return f"{name}=[{text[1:-1].rstrip(', ')}]"
    quoted = text if _UNQUOTED.fullmatch(text) else "'" + text.replace("'", "\\'") + "'"
    return f"{name}={quoted}"

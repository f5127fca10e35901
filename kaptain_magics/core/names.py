"""Names: identifiers that are valid everywhere (files, Kubernetes objects, URLs), and "did you mean"."""

from __future__ import annotations

import difflib
import re
import secrets
import time
from collections.abc import Iterable

_LONGEST = 63  # a Kubernetes label value and DNS label


def sanitize(text: str, longest: int = _LONGEST) -> str:
    """Turn any text into a DNS label: ``dev/mnist`` becomes ``dev-mnist``.

    Args:
        text: A model's id or name.
        longest: The label's greatest length in characters.

    Returns:
        Lower-case letters, digits and dashes; ``model`` when nothing is left.
    """
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest].strip("-")
    return label or "model"


def new_hex(digits: int = 8) -> str:
    """Return that many random hexadecimal digits."""
    return secrets.token_hex((digits + 1) // 2)[:digits]


def new_job_name(model_name: str, kind: str) -> str:
    """Return a job's name in the tutorial's form, such as ``mnist-job-17921389``."""
    suffix = f"-{kind}-{new_hex(8)}"
    return sanitize(model_name, _LONGEST - len(suffix)) + suffix


def new_run_id() -> str:
    """Return an id of a run: sorts by time (to a 4,096th of a second), unique, short enough to type after Tab."""
    seconds, rest = divmod(time.time(), 1)
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime(seconds)) + f"{int(rest * 4096):03x}" + new_hex(3)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest known word, or nothing."""
    known = list(known)
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean '{by_lower[close[0]]}'?" if close else ""

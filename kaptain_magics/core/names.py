"""Names: identifiers that are valid everywhere (files, Kubernetes objects, URLs), and "did you mean"."""

from __future__ import annotations

import difflib
import hashlib
import re
import secrets
import time
from collections.abc import Iterable

LONGEST_ID = 200  # bytes of a model's id: it is part of paths, whose parts have 255
_LONGEST = 63  # a Kubernetes label value and DNS label
_LONGEST_ENDPOINT = 39  # KServe appends -predictor-00001-private and has 63
_LONGEST_JOB = 52  # what runs a job appends its own: -worker-12, -00000000
_LONGEST_STUDY = 40  # Katib's limit
_DIGEST = 8  # hexadecimal digits that keep a shortened name unique


def check_model_id(text: str) -> str:
    """Return a model's id that every target and store can use.

    Raises:
        ValueError: It is none; the text says how one is written.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > LONGEST_ID:
        raise ValueError(f"a model id has at most {LONGEST_ID} bytes, this one {size}")
    if not text.isprintable():
        raise ValueError("a model id has no line breaks and no control characters")
    if not text.strip() or any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError("write letters, digits, '.', '_', '-' and '/', as in dev/mnist")
    return text


def is_model_id(text: str) -> bool:
    """Whether a store can have something of that model: runs of earlier versions may have any text."""
    try:
        return bool(check_model_id(text))
    except ValueError:
        return False


def sanitize(text: str, longest: int = _LONGEST) -> str:
    """Turn any text into a DNS label that begins with a letter: ``dev/mnist`` becomes ``dev-mnist``.

    What is too long, or has letters that a label cannot have, gets the beginning of its digest: two different texts
    do not become the same then. A label stays as it is.

    Args:
        text: A model's id or name.
        longest: The label's greatest length in characters.

    Returns:
        Lower-case letters, digits and dashes.
    """
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not label[:1].isalpha():
        label = f"m-{label}".strip("-")
    lost = any(letter.isalnum() and not letter.isascii() for letter in text)
    if lost or len(label) > longest:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        label = f"{label[: longest - _DIGEST - 1].strip('-')}-{digest}"
    return label


def endpoint_name(model_id: str) -> str:
    """Return the name of a model's endpoint: ``dev/mnist`` becomes ``dev-mnist``; the name itself stays as it is."""
    return sanitize(model_id, _LONGEST_ENDPOINT)


def new_hex(digits: int = 8) -> str:
    """Return that many random hexadecimal digits, from the operating system: names that others cannot guess."""
    return secrets.token_hex((digits + 1) // 2)[:digits]


def new_job_name(model_name: str, kind: str) -> str:
    """Return a job's name in the tutorial's form, such as ``mnist-job-17921389``; a study's has kind ``tune``."""
    suffix = f"-{kind}-{new_hex(8)}"
    longest = _LONGEST_STUDY if kind == "tune" else _LONGEST_JOB
    return sanitize(model_name, longest - len(suffix)) + suffix


def new_run_id() -> str:
    """Return an id of a run: sorts by time (to a 4,096th of a second), unique, short enough to type after Tab."""
    seconds, rest = divmod(time.time(), 1)
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime(seconds)) + f"{int(rest * 4096):03x}" + new_hex(3)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest known word, or nothing."""
    choices = list(choices)
    by_lower = {k.lower(): k for k in choices}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean '{by_lower[close[0]]}'?" if close else ""

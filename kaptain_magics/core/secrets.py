"""What must not be shown: values of variables whose name says that they are secret."""

from __future__ import annotations

import re

MASK = "********"
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|PRIVATE|ACCESS_KEY|API_?KEY|_KEY$|^KEY$", re.IGNORECASE)


def masked(name: str, value: str) -> str:
    """Return ``value``, or a mask where ``name`` says that it is a secret."""
    return MASK if _SECRET.search(name) else value

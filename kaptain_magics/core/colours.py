"""Colours that programs print for terminals."""

from __future__ import annotations

import re

COLOURS = re.compile(r"\x1b\[[\d;:]*m")
"""An SGR sequence, such as ``ESC[1;31m``, or ``ESC[38:5:9m`` as ISO 8613-6 writes it."""

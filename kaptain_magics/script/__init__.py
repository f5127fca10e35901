"""A captured cell or a file becomes a ``Script``: what it takes, imports and lacks is known before anything runs."""

from kaptain_magics.script.capture import assigns, capture, check_variables, read_file
from kaptain_magics.script.paths import expand
from kaptain_magics.script.requirements import read_requirements
from kaptain_magics.script.values import bindings, typed

__all__ = ["assigns", "bindings", "capture", "check_variables", "expand", "read_file", "read_requirements", "typed"]

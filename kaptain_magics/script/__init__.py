"""A captured cell or a file becomes a ``Script``: what it takes, imports and lacks is known before anything runs."""

from kaptain_magics.script.capture import assigns, capture, check_variables, read_file
from kaptain_magics.script.paths import expand
from kaptain_magics.script.requirements import read_requirements
from kaptain_magics.script.values import bindings, names_to_set, remarks, typed, whole_name

__all__ = [
    "assigns",
    "bindings",
    "capture",
    "check_variables",
    "expand",
    "names_to_set",
    "read_file",
    "read_requirements",
    "remarks",
    "typed",
    "whole_name",
]

"""Whether an array has the shape that a model takes, and what to write where it has not: nothing is rearranged here."""

from __future__ import annotations

import math

Shape = tuple[int, ...]


def fits(shape: Shape, expected: Shape) -> bool:
    """Whether a shape is the wanted one, where -1 takes any size."""
    return len(shape) == len(expected) and all(w in (-1, f) for f, w in zip(shape, expected, strict=True))


def mismatch(name: str, shape: Shape, expected: Shape) -> str:
    """Return what to say of an input whose shape is not the model's: both shapes."""
    return f"input {name!r} has shape {list(shape)}, not {list(expected)}"


def advice(shape: Shape, expected: Shape) -> str:
    """Return the line that makes the data what the model takes, where one is likely; else what to send.

    Args:
        shape: The data's shape.
        expected: The model's: the samples' dimension, then those of one sample.
    """
    order = _order(shape, expected)
    if order is not None:
        return f"if only the order of its axes differs: np.transpose(x, {order})"
    inner = expected[1:]
    if not inner or any(size < 0 for size in inner):
        return ""
    values = math.prod(inner)
    if len(inner) == 1:
        if len(shape) > 2 and math.prod(shape[1:]) == values:
            return "if every sample is to be flattened row by row: x.reshape(len(x), -1)"
        if len(shape) > 1 and math.prod(shape) == values:
            return "if it is one sample, to be flattened row by row: x.reshape(1, -1)"
        return ""
    return f"send samples of shape {list(inner)}, or flat rows of {values} values"


def _order(shape: Shape, expected: Shape) -> Shape | None:
    """Return the order of axes that moves the channels from the last place to the first, or back, if that fits."""
    if len(shape) == len(expected) >= 3:
        inner = range(1, len(shape))
        orders = [(0, inner[-1], *inner[:-1]), (0, *inner[1:], inner[0])]
    elif len(shape) == len(expected) - 1 >= 2:  # one sample without the samples' dimension
        axes = range(len(shape))
        orders, expected = [(axes[-1], *axes[:-1]), (*axes[1:], axes[0])], expected[1:]
    else:
        return None
    return next((order for order in orders if fits(tuple(shape[axis] for axis in order), expected)), None)

"""What every loader needs: its library, the model's file, and texts of ``BYTES`` tensors."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from kaptain_magics.errors import FrameworkError, ServingError
from kaptain_magics.serving.signature import Array


def require(module: str, distribution: str) -> ModuleType:
    """Import a framework's library.

    Raises:
        FrameworkError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        missing = (error.name or root).partition(".")[0]
        needed = distribution if missing == root else missing
        raise FrameworkError(
            f"the model needs {needed}, which is not installed here",
            f"add {needed} to the requirements of the deployment, or: pip install {needed}",
        ) from None


def find_file(folder: Path, patterns: Iterable[str]) -> Path:
    """Return the one file or folder in ``folder`` that the first matching pattern names.

    Raises:
        ServingError: There is none, or several match alike.
    """
    patterns = list(patterns)
    for pattern in patterns:
        matches = sorted(folder.glob(pattern))
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(p.name for p in matches[:5])
            raise ServingError(f"{folder.name} holds several models: {names}", "save one model per folder")
    present = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    raise ServingError(
        f"{folder.name} holds no model file ({', '.join(patterns)})", f"it holds {', '.join(present[:5])}"
    )


def as_text(array: Array) -> Array:
    """Return a ``BYTES`` tensor with its ``bytes`` decoded as UTF-8; ``None`` and other arrays stay as they are."""
    if array.dtype != object:
        return array
    texts = [value.decode() if isinstance(value, bytes) else value for value in array.ravel()]
    decoded: Array = np.empty(len(texts), dtype=object)
    decoded[:] = texts
    return decoded.reshape(array.shape)

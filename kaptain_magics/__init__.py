"""From a notebook cell to a trained, tuned and served model: ``%load_ext kaptain_magics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; called by ``%load_ext kaptain_magics``."""
    from kaptain_magics.magics import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics away; called by ``%unload_ext kaptain_magics``. Runs and endpoints go on."""
    from kaptain_magics.magics import unload

    unload(shell)

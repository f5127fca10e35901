"""Modules beside the notebook, found by a job on the same machine as the notebook finds them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any


def search(folders: Iterable[str]) -> None:
    """Put folders on the search path where IPython has the notebook's: behind the standard library.

    Their modules are compiled again by every job. A compiled file beside them would count as current when a module was
    edited twice within a second, and would have to be written there.
    """
    import importlib.machinery as machinery

    class Uncached(machinery.SourceFileLoader):
        def path_stats(self, _path: Any) -> Mapping[str, Any]:
            raise OSError("no compiled file counts")

    folders = [folder for folder in folders if folder not in sys.path]
    finder = machinery.FileFinder.path_hook(
        (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
        (Uncached, machinery.SOURCE_SUFFIXES),
        (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
    )

    def ours(path: str) -> Any:
        if not any(path == folder or path.startswith(folder + os.sep) for folder in folders):
            raise ImportError
        return finder(path)

    sys.path_hooks.insert(0, ours)
    site = (number for number, entry in enumerate(sys.path) if entry.endswith(("site-packages", "dist-packages")))
    at = next(site, len(sys.path))
    sys.path[at:at] = folders


def forget(name: str) -> None:
    """Let a module beside the notebook be imported, where a library of the worker has an installed one of its name."""
    for loaded in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[loaded]

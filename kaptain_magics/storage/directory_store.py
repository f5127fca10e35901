"""The object store in a directory: objects are files, removed by renaming them away first."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kaptain_magics.runtime.directory import PART, DirectoryTransfer, translate_os_errors
from kaptain_magics.runtime.job_errors import TransferError
from kaptain_magics.runtime.location import Location
from kaptain_magics.storage.base import BaseStore


class DirectoryStore(BaseStore):
    """Objects are files; see ``ObjectStore``.

    Args:
        base: The folder below which it may delete.
    """

    def __init__(self, base: Location) -> None:
        super().__init__(base, DirectoryTransfer())

    def _copy(self, objects: Mapping[Location, Location]) -> None:
        for source, target in objects.items():
            self._transfer.send(source.path, target)

    def _remove(self, folder: Location, names: set[str]) -> None:
        for name in names:
            path = (folder / name).path
            with translate_os_errors(path):
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # the folders that it leaves empty
                    for parent in path.relative_to(folder.path).parents:
                        (folder.path / parent).rmdir()

    def _delete(self, target: Location) -> None:
        path = target.path
        with translate_os_errors(path):
            if not os.path.lexists(path):
                return
            real = path.parent.resolve() / path.name
            if not Location("", str(self.base.path.resolve())).holds(Location("", str(real))):
                raise TransferError(f"{path} leaves {self.base.path} through a link", "remove the link")
            if path.is_symlink() or not path.is_dir():
                path.unlink()
                return
            doomed = path.with_name(f"{PART}{os.urandom(6).hex()}")  # no reader sees it half deleted
            os.replace(path, doomed)
            _remove_tree(doomed)


def _remove_tree(folder: Path) -> None:
    """Remove a folder, also while another process still writes into it."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
    shutil.rmtree(folder)

"""Values of the notebook that were sent to runs: equal ones are one file, for as long as a run has it.

``<home>/sent/<sha256>.pkl`` and the ``sent.pkl`` of every run that was sent the same are one file (hard links), whose
count of links says how many runs have it. On a disk without links each run has a copy, and nothing is shared.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from kaptain_magics.files import disk_error, locked, private_folder, write_whole

SENT = "sent.pkl"
"""The file in a run's folder."""


class SentValues:
    """What was sent to the runs of a state folder.

    Args:
        home: The state folder.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "sent"

    def put(self, data: bytes, run: Path) -> None:
        """Give a run its values.

        Args:
            data: The values, pickled.
            run: The run's folder.

        Raises:
            StateError: The disk is full.
        """
        path = self._folder / f"{hashlib.sha256(data).hexdigest()}.pkl"
        with self._locked():
            if not path.exists():
                write_whole(path, data)
            share(path, run / SENT)

    def sweep(self) -> int:
        """Remove what no run has any more.

        Returns:
            The bytes that are free now.
        """
        freed = 0
        if not self._folder.is_dir():
            return 0
        with self._locked():
            for path in self._folder.glob("*.pkl"):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if status.st_nlink == 1:
                        path.unlink()
                        freed += status.st_size
        return freed

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        private_folder(self._folder)
        return locked(self._folder / ".lock", timeout=60.0)  # a gigabyte is written under it


def share(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, or a copy where the disk has no links.

    Raises:
        StateError: The disk is full.
        FileNotFoundError: There is no source.
    """
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        try:
            shutil.copyfile(source, target)
            target.chmod(0o600)
        except OSError as error:
            raise disk_error(error, target) from error


def distinct_size(paths: list[Path]) -> int:
    """Return the bytes of files; those that are the same one count once."""
    sizes: dict[tuple[int, int], int] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())

"""Tar archives whose bytes depend on nothing but names and contents: no user, no time, no path of this machine."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kaptain_magics.images.build_context import Entry


def write_tar(
    sink: Any,
    entries: Iterable[Entry],
    prefix: str,
    *,
    further: Iterable[tarfile.TarInfo] = (),
) -> None:
    """Write the folder ``prefix`` and the entries in it, sorted by path.

    Everything belongs to root and may be written by group 0: a container that runs under any other number, with 0 as
    one of its groups, can use it as its own.

    Args:
        sink: Gets the archive; needs ``write`` only.
        entries: The files.
        prefix: Folder that they go to, without a slash at either end.
        further: Further folders, as they are.
    """
    folders_written: set[str] = {""}
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:

        def make_folder(path: str) -> None:
            if path not in folders_written:
                make_folder(path.rpartition("/")[0])
                folders_written.add(path)
                tar.addfile(folder_info(path, 0o775))

        make_folder(prefix)
        for entry in sorted(entries, key=lambda item: item.path):
            info = tarfile.TarInfo(f"{prefix}/{entry.path}".lstrip("/"))
            make_folder(info.name.rpartition("/")[0])
            info.mode = 0o775 if entry.executable else 0o664
            if isinstance(entry.source, bytes):
                info.size = len(entry.source)
                tar.addfile(info, io.BytesIO(entry.source))
            else:
                with open(entry.source, "rb") as file:
                    info.size = os.fstat(file.fileno()).st_size
                    tar.addfile(info, file)
        for info in further:
            tar.addfile(info)


def folder_info(path: str, mode: int) -> tarfile.TarInfo:
    """Return a folder's entry for an archive; ``path`` has no slash at either end."""
    info = tarfile.TarInfo(path)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info


def files_below(folder: Path) -> list[Entry]:
    """Return every file below a folder, links followed, compiled Python left out."""
    entries = []
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = Path(here) / name
            entries.append(Entry(path.relative_to(folder).as_posix(), path, os.access(path, os.X_OK)))
    return entries

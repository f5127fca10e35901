"""The files that a script has written on another machine: sent through the job's channel, for its disk goes with it.

On this machine they stay where they are, in the run's folder.
"""

from __future__ import annotations

import os
import stat

from kaptain_magics.runtime.beside import SKIPPED
from kaptain_magics.runtime.channel import emit
from kaptain_magics.runtime.pieces import channel_kind, send

_ONE, _ALL = 1 << 20, 2 << 20  # bytes: with what is shown, they have to fit in the 10 MiB of a pod's log
_FILES = 200  # files of a run at most: that log has lines of each
_NAMED = 5  # files named in a note

Snapshot = dict[str, tuple[int, int]]


def snapshot(folder: str) -> Snapshot:
    """Return the regular files below a folder with sizes and times; nothing on the machine of the run's folder."""
    files: Snapshot = {}
    if channel_kind() != "stdout" or os.environ.get("KAPTAIN_TRIAL"):
        return files
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.startswith(".")]
        for name in names:
            path = os.path.join(place, name)
            state = os.lstat(path)
            if stat.S_ISREG(state.st_mode) and not name.startswith("."):
                files[os.path.relpath(path, folder).replace(os.sep, "/")] = (state.st_size, state.st_mtime_ns)
    return files


def send_written(folder: str, before: Snapshot) -> None:
    """Send the files that are new or changed since a snapshot, the small ones first; a note names those left behind."""
    new = {path: size for path, (size, when) in snapshot(folder).items() if before.get(path) != (size, when)}
    total, left = 0, []
    for number, path in enumerate(sorted(new, key=lambda path: (new[path], path))):
        total += new[path]
        if new[path] > _ONE or total > _ALL or number >= _FILES:
            left.append(path)
            continue
        with open(os.path.join(folder, path), "rb") as file:
            send("file", path, file.read(_ONE))
    if left:
        names = ", ".join(f"{path} ({new[path] / 1e6:.1f} MB)" for path in left[:_NAMED])
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        text = f"written by the script and not brought here: {names}{more}"
        hint = "the log carries 1 MiB of a file and 2 MiB in all; store larger ones where you find them, such as in S3"
        emit({"kind": "note", "text": text, "warning": True, "hint": hint})

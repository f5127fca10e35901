"""The files of a run: what its script has shown, and what it has written into its working folder."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import NotFoundError
from kaptain_magics.runtime.beside import SKIPPED
from kaptain_magics.state.content import DISPLAYS, WORK

_MOST = 10_000  # files that are looked at: a script may have unpacked a data set


class RunFile(msgspec.Struct, frozen=True):
    """A file of a run.

    Attributes:
        name: Its name in the run, such as ``displays/1.png``, or ``out/table.csv`` for what the script has written.
        path: Where it is.
        size: Its bytes.
        shown: Whether the script showed it, rather than wrote it.
    """

    name: str
    path: Path
    size: int
    shown: bool


def run_files(folder: Path, job: JobSpec | None, ended: bool) -> list[RunFile]:
    """Return the files of a run, what was shown first.

    Args:
        folder: The run's folder.
        job: The run's job, or the template of its trials: its script and the files of ``--files`` are left out.
        ended: Whether the run has ended. Until then what it reads beside the notebook lies in its working folder too,
            and is left out; in the end only what the script has changed of that is there.
    """
    laid: set[str] = set()
    if job is not None:
        laid = {job.script_path, *(posixpath.join(job.place, posixpath.basename(path)) for path in job.extra_files)}
        laid |= set() if ended else job.placed.keys()
    files = [*_below(folder / DISPLAYS, f"{DISPLAYS}/", True), *_below(folder / WORK, "", False, laid)]
    trials = folder / "trials"
    for number in sorted((path.name for path in trials.glob("*")), key=lambda name: (len(name), name)):
        files += _below(trials / number / DISPLAYS, f"trials/{number}/{DISPLAYS}/", True)
    return files


def find_file(files: Sequence[RunFile], name: str, run_id: str) -> Path:
    """Return the path of the file of that name, or whose name ends so.

    Raises:
        NotFoundError: There is none, or several.
    """
    for matches in (
        [file for file in files if file.name == name],
        [file for file in files if file.name.endswith(f"/{name}")],
    ):
        if len(matches) == 1:
            return matches[0].path
        if matches:
            names = ", ".join(file.name for file in matches[:5])
            raise NotFoundError(f"run {run_id} has several files {name!r}", f"name one of {names}")
    hint = did_you_mean(name, [file.name for file in files]) or f"%kaptain show {run_id} lists them"
    raise NotFoundError(f"run {run_id} has no file {name!r}", hint)


def _below(folder: Path, prefix: str, shown: bool, laid: Collection[str] = ()) -> Iterator[RunFile]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        for name in sorted(names):
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            state = path.lstat()
            if not stat.S_ISREG(state.st_mode) or any(
                relative == own or relative.startswith(f"{own}/") for own in laid
            ):
                continue
            count += 1
            if count > _MOST:
                return
            yield RunFile(f"{prefix}{relative}", path, state.st_size, shown)

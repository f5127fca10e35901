"""What to do where a script did not find a file or a module: it may lie beside the notebook."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kaptain_magics.core.failures import NO_MODULE
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.script.local_modules import find_module

_FILE = re.compile(
    r"(?:FileNotFoundError|NotADirectoryError)\b.*?['\"]([^'\"]+)['\"]|FileNotFoundError: (\S+) not found"
)


def hint_for_missing(reason: str, hint: str, job: JobSpec) -> str:
    """Return the hint of a failed job, which names the file's or module's place where that is known.

    Args:
        reason: Why the job failed.
        hint: What is known to help so far.
        job: The job.
    """
    folders = [Path(folder) for folder in job.script.folders]
    module, file = NO_MODULE.search(reason), _FILE.search(reason)
    if not folders:
        return hint
    if module is not None:
        return _for_module(module[1].partition(".")[0], folders, job) or hint
    if file is not None:
        return _for_file(file[1] or file[2], folders, job) or hint
    return hint


def _for_module(name: str, folders: list[Path], job: JobSpec) -> str:
    module = find_module(name, folders)
    if module is None:
        return ""
    return _bring(os.path.relpath(module.path, module.root), job)


def _for_file(path: str, folders: list[Path], job: JobSpec) -> str:
    work = Path(job.folder, "work", job.place)
    if Path(path).is_relative_to(work):
        path = str(Path(path).relative_to(work))
    if Path(path).is_absolute():
        within = [folder for folder in folders if Path(path).exists() and Path(path).is_relative_to(folder)]
        if within:  # the job runs elsewhere
            return (
                f"the job has no such folder: write {Path(path).relative_to(within[0])} in the script, and it is sent"
            )
        return ""
    for folder in folders:
        if (folder / path).exists():
            return _bring(path, job)
    missing = folders[0] / path
    near = did_you_mean(missing.name, os.listdir(missing.parent)) if missing.parent.is_dir() else ""
    absent = f"there is no {path} in {folders[0]}, where the notebook is"
    return f"{absent}; {near}" if near else f"{absent}: check the name, or bring the file with --files PATH"


def _bring(path: str, job: JobSpec) -> str:
    if path.startswith(".."):
        return f"{path} is there, but this text of the script does not say so: write the path as one text"
    why = "--isolated keeps it out" if job.isolated else "the script does not name it in one text"
    return f"{path} is beside the notebook, but {why}: add --files {Path(path).parts[0]}"

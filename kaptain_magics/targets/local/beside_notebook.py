"""What jobs of this machine have beside the notebook: read where it is, or a study's own copy of it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kaptain_magics.core.scripts import InputRole
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.files import private_folder
from kaptain_magics.runtime.beside import Beside


def beside_notebook(job: JobSpec, folder: Path) -> dict[str, Any]:
    """Return what a job's launcher reads of the folders beside the notebook; see ``runtime.beside.prepare``.

    Args:
        job: The job.
        folder: Its folder.
    """
    folders = [str(_above(Path(place), job.place)) for place in job.script.folders]
    if job.isolated or not folders:
        return {}
    shared = _snapshot(folder.parent.parent) if job.trial is not None else None
    inputs = []
    for item in job.inputs:
        if item.role is not InputRole.FOLDER:
            source = item.source if shared is None else str(shared / item.path)
            inputs.append((item.path, source, item.role.value))
    search = [str(shared / job.place)] if shared is not None else []
    search.append(job.script.folders[0])
    return {"beside": {"folders": folders, "inputs": inputs, "search": search, "copies": shared is None}}


def snapshot_inputs(job: JobSpec, run: Path) -> None:
    """Copy, once for a study, what its trials read: all of them see the same, whatever is edited meanwhile.

    What is too large to be copied is linked.
    """
    shared, sources = _snapshot(run), [item for item in job.inputs if item.role is not InputRole.FOLDER]
    if shared.exists() or not sources:
        return
    part = shared.with_name(f"{shared.name}.part")
    private_folder(part)
    inputs = Beside(str(part), [])
    for item in sources:
        inputs.lay(item.path, item.source)
    part.replace(shared)


def local_modules(job: JobSpec) -> set[str]:
    """Return the names of the script's own modules: what a worker must not import, for they may be edited."""
    return {PurePosixPath(item.path).name.partition(".")[0] for item in job.inputs if item.role is InputRole.MODULE}


def _snapshot(run: Path) -> Path:
    return run / "beside"


def _above(folder: Path, place: str) -> Path:
    """Return the folder that a job's working folder stands for."""
    return folder.parents[len(PurePosixPath(place).parts) - 1] if place else folder

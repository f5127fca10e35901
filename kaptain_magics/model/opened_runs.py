"""Opens the run of a folder as an object of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaptain_magics.core.states import RunKind
from kaptain_magics.errors import NotFoundError
from kaptain_magics.model.runs import Deployment, Run, TrainingRun
from kaptain_magics.model.study import Study
from kaptain_magics.state import RunFolder

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

_RUN_TYPES: dict[RunKind, type[Run]] = {
    RunKind.TRAIN: TrainingRun,
    RunKind.TUNE: Study,
    RunKind.DEPLOY: Deployment,
}


def open_run(folder: RunFolder, context: Context) -> Run:
    """Return the run of a folder, as an object of its kind.

    Raises:
        NotFoundError: The folder holds no run.
    """
    if not folder.path.exists():
        raise NotFoundError(f"there is no run {folder.run_id}", "%kaptain runs lists them")
    return _RUN_TYPES[folder.record.kind](folder, context)

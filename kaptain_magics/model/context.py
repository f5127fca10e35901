"""What everything of the model stands on: settings, the stores that they name, and targets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.config import Settings
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.errors import StateError
from kaptain_magics.files import make_private
from kaptain_magics.state import Registry, RunFolder, RunStore, RunSummary
from kaptain_magics.targets.base import ServingTarget, Target, open_target
from kaptain_magics.targets.environment import storage_environment, target_config

if TYPE_CHECKING:
    from kaptain_magics.storage import ObjectStore


class Context:
    """The stores and targets under one set of settings.

    Args:
        settings: The settings in force; gathered when not given.
        secrets: Environment variables with credentials that only this process has; handed to what it starts.
    """

    def __init__(self, settings: Settings | None = None, secrets: Mapping[str, str] | None = None) -> None:
        self.settings = settings or Settings.load()
        self.secrets = dict(secrets or {})
        for folder in (self.settings.home, self.settings.cache):
            make_private(Path(folder))
        self.store = RunStore(Path(self.settings.home))
        self.registry = Registry(Path(self.settings.home))

    def target(self, name: str = "") -> Target:
        """Return the target of that name, or the one in the settings."""
        return open_target(name or self.settings.target, target_config(self.settings, self.secrets))

    def serving(self, name: str = "") -> ServingTarget:
        """Return the target of that name as one that serves."""
        target = self.target(name)
        if not isinstance(target, ServingTarget):
            raise StateError(f"target {target.name} does not serve models", "deploy on another one with --on")
        return target

    def objects(self) -> ObjectStore:
        """Return the object store that holds the models."""
        from kaptain_magics.storage import open_store

        return open_store(self.settings.models_uri, storage_environment(self.settings, self.secrets))

    def folder(self, run_id: str) -> RunFolder:
        """Return the folder of a run; it need not exist."""
        return RunFolder(self.store.folder / run_id)

    def runs(self) -> list[RunSummary]:
        """Return all runs, the newest first; what a killed study left is put in order on the way."""
        rows = self.store.summaries()
        for row in rows:
            if row.record.kind is RunKind.TUNE and row.state in (RunState.FAILED, RunState.STOPPED):
                self._finish_dead(self.folder(row.record.run_id))
        return rows

    def _finish_dead(self, folder: RunFolder) -> None:
        from kaptain_magics.supervisor.start_supervisor import start
        from kaptain_magics.supervisor.study_run import TIDIED

        if not (folder.path / TIDIED).exists() and folder.lock.acquire():
            start(folder, self.secrets, self.settings.warm)

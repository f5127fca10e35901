"""The workspace: everything of every kernel under one set of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaptain_magics.config import Settings
from kaptain_magics.core.states import EndpointState, RunKind, RunState
from kaptain_magics.errors import KaptainError, StateError
from kaptain_magics.model.endpoint import Endpoint
from kaptain_magics.model.handles import Handle, Study, open_handle
from kaptain_magics.state import ModelRecord, Registry, RunFolder, RunStore, RunSummary
from kaptain_magics.supervisor.context import storage_environment, surroundings
from kaptain_magics.targets.base import Check, EndpointStatus, ServingTarget, Target, open_target

if TYPE_CHECKING:
    from kaptain_magics.model.model import Model
    from kaptain_magics.storage import ObjectStore


class Workspace:
    """Runs, models and endpoints.

    Args:
        settings: The settings in force; gathered when not given.
        secrets: Environment variables with credentials that only this process has; handed to what it starts.
    """

    def __init__(self, settings: Settings | None = None, secrets: Mapping[str, str] | None = None) -> None:
        self.settings = settings or Settings.load()
        self.secrets = dict(secrets or {})
        self.store = RunStore(Path(self.settings.home))
        self.registry = Registry(Path(self.settings.home))

    def target(self, name: str = "") -> Target:
        """Return the target of that name, or the one in the settings."""
        around = surroundings(self.settings, self.secrets)
        return open_target(name or self.settings.target, around)

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

    def model(self, model_id: str, **properties: Any) -> Model:
        """Return a model; see ``Model`` for its properties."""
        from kaptain_magics.model.model import Model

        return Model(id=model_id, workspace=self, **properties)

    # ---- runs --------------------------------------------------------------------------------------------------

    def runs(self) -> list[RunSummary]:
        """Return all runs, the newest first; what a killed study left is put in order on the way."""
        rows = self.store.summaries()
        for row in rows:
            if row.record.kind is RunKind.TUNE and row.state in (RunState.FAILED, RunState.STOPPED):
                self._finish_dead(self.folder(row.record.run_id))
        return rows

    def _finish_dead(self, folder: RunFolder) -> None:
        from kaptain_magics.supervisor.start import start
        from kaptain_magics.supervisor.tune import TIDIED

        if not (folder.path / TIDIED).exists() and folder.lock.acquire():
            start(folder, self.secrets, self.settings.warm)

    def run(self, word: str) -> Handle:
        """Return the run that a word names: an id or its beginning, a name, or a model's id (its newest run)."""
        return open_handle(self.store.find(word), self)

    def stop(self, word: str) -> Handle:
        """End a run that goes on and return it."""
        handle = self.run(word)
        handle.stop()
        return handle

    def resume(self, word: str) -> Study:
        """Go on with a study that was interrupted or killed."""
        from kaptain_magics.model.planning import resume_plan

        return resume_plan(self, word).start()

    def render(self, word: str) -> str:
        """Return what was applied for a run."""
        record = self.run(word).record
        spec = record.job or record.study or record.endpoint
        assert spec is not None
        return self.target(record.target).render(spec)

    # ---- models and endpoints ----------------------------------------------------------------------------------

    def models(self) -> list[ModelRecord]:
        """Return all models by id."""
        return self.registry.models()

    def endpoints(self) -> list[EndpointStatus]:
        """Return all endpoints; one whose target cannot be reached says so in its reason."""
        found = []
        for record in self.registry.endpoints():
            try:
                status = self.serving(record.target).endpoint(record.name)
            except KaptainError as error:
                status = EndpointStatus(
                    name=record.name, state=EndpointState.FAILED, model_id=record.model_id, reason=error.message
                )
            found.append(status)
        return found

    def endpoint(self, name: str) -> Endpoint:
        """Return an endpoint by its name or its model's id."""
        record = self.registry.endpoint(name)
        return Endpoint(record.name, self.serving(record.target), self)

    def forget_endpoint(self, name: str) -> None:
        """Remove an endpoint that was taken down from the list."""
        self.registry.remove_endpoint(name)

    # ---- housekeeping ------------------------------------------------------------------------------------------

    def clean(self, force: bool = False) -> list[str]:
        """Find what is left behind and, with ``force``, remove it.

        Returns:
            A line for everything that was (or would be) removed.
        """
        from kaptain_magics.model.housekeeping import clean

        return clean(self, force)

    def doctor(self) -> list[Check]:
        """Look whether everything can be used, with cause and next step where it cannot."""
        from kaptain_magics.model.housekeeping import doctor

        return doctor(self)

    def folder(self, run_id: str) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.store.folder / run_id)

"""The workspace: everything of every kernel under one set of settings."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from kaptain_magics.core.states import EndpointState, RunKind
from kaptain_magics.errors import KaptainError, NotFoundError
from kaptain_magics.model.context import Context
from kaptain_magics.model.endpoint import Endpoint, open_endpoint
from kaptain_magics.model.opened_runs import open_run
from kaptain_magics.model.runs import Run
from kaptain_magics.model.study import Study
from kaptain_magics.model.tables import ModelList
from kaptain_magics.targets.base import Check, EndpointStatus

if TYPE_CHECKING:
    from kaptain_magics.model.contract.sdk_model import Model
    from kaptain_magics.model.history import RunTable


class Workspace(Context):
    """Runs, models and endpoints.

    Args:
        settings: The settings in force; gathered when not given.
        secrets: Environment variables with credentials that only this process has; handed to what it starts.
    """

    def model(self, model_id: str, **properties: Any) -> Model:
        """Return a model; see ``Model`` for its properties."""
        from kaptain_magics.model.contract.sdk_model import Model

        return Model(id=model_id, workspace=self, **properties)

    # ---- runs --------------------------------------------------------------------------------------------------

    def run(self, word: str) -> Run:
        """Return the run that a word names: an id or its beginning, a name, or a model's id (its newest run)."""
        return open_run(self.store.find(word), self)

    def work(self, word: str) -> Run:
        """Return the run that a word names; of a model's id its newest training or study, not a deployment."""
        run = self.run(word)
        record = run.record
        if record.kind is RunKind.DEPLOY and word == record.model_id:
            rows = (row.record for row in self.runs() if row.record.model_id == word)
            newest = next((row.run_id for row in rows if row.kind is not RunKind.DEPLOY), "")
            return self.run(newest) if newest else run
        return run

    def study(self, word: str = "") -> Study:
        """Return the study that a word names: an id, a name, or a model's id (its newest study); else the newest.

        Raises:
            NotFoundError: There is none.
        """
        if not word:
            word = next((r.record.run_id for r in self.runs() if r.record.kind is RunKind.TUNE), "")
            if not word:
                raise NotFoundError("there are no studies yet", "start one with %kaptain_tune NAME")
        study = open_run(self.store.find(word, RunKind.TUNE), self)
        if not isinstance(study, Study):
            raise NotFoundError(f"{word} is not a study", "%kaptain runs lists them")
        return study

    def history(
        self, model_id: str = "", condition: str = "", last: int | None = None, by: str = "", tags: Sequence[str] = ()
    ) -> RunTable:
        """Return runs beside each other, with hyperparameters and metrics; see ``model.history.history``."""
        from kaptain_magics.model.history import history

        return history(self, model_id, condition, last, by, tags)

    def stop(self, word: str) -> Run:
        """End a run that is in progress, wait for its end and return it."""
        run = self.run(word)
        run.stop()
        return run

    def resume(self, word: str) -> Study:
        """Go on with a study that was interrupted or killed."""
        from kaptain_magics.model.tuning import plan_resumption

        return plan_resumption(self, word).start()

    def render(self, word: str) -> str:
        """Return what a run applied (its manifests, or its spec), secrets masked."""
        record = self.run(word).record
        spec = record.job or record.study or record.endpoint
        assert spec is not None
        return self.target(record.target).render(spec)

    def describe(self, word: str) -> str:
        """Return what a run is, its script and exact hyperparameters, and what it applied."""
        from kaptain_magics.model.describe import describe

        return f"{describe(self, self.run(word))}\napplied:\n{self.render(word)}"

    # ---- models and endpoints ----------------------------------------------------------------------------------

    def models(self) -> ModelList:
        """Return the records of all models, ordered by id; ``to_dataframe()`` has a row for each revision."""
        return ModelList(self.registry.models())

    def deployed(self, model_id: str) -> dict[str, int]:
        """Return the percent of requests that a model's revisions get now, by the URI of the saved model."""
        shares: dict[str, int] = {}
        try:
            record = self.registry.endpoint(model_id)
        except NotFoundError:
            return shares
        traffic = {record.spec.revision: 100}  # as it was deployed last, where its target cannot be asked
        with contextlib.suppress(KaptainError):
            traffic = self.serving(record.target).endpoint(record.name).traffic or traffic
        for revision, percent in traffic.items():
            uri = record.sources.get(revision, "")
            shares[uri] = shares.get(uri, 0) + percent
        return shares

    def endpoints(self) -> list[EndpointStatus]:
        """Return all endpoints; one whose target cannot be reached says so in its reason."""
        statuses = []
        for record in self.registry.endpoints():
            try:
                status = self.serving(record.target).endpoint(record.name)
            except KaptainError as error:
                status = EndpointStatus(
                    name=record.name, state=EndpointState.FAILED, model_id=record.model_id, reason=error.message
                )
            statuses.append(status)
        return statuses

    def endpoint(self, name: str) -> Endpoint:
        """Return an endpoint by its name or its model's id."""
        return open_endpoint(self, name)

    # ---- upkeep ------------------------------------------------------------------------------------------------

    def clean(self, force: bool = False, kinds: Collection[str] = (), older: float = 0.0) -> list[str]:
        """Find what is left behind and, with ``force``, remove it.

        Args:
            force: Whether it is removed.
            kinds: What is meant, of ``model.cleaning.KINDS``: without one only what is not the person's, so no files
                that scripts wrote, no figures, and no logs of trials.
            older: Only what runs that ended so many seconds ago have left; targets are not looked at then.

        Returns:
            A line for everything that was (or would be) removed.
        """
        from kaptain_magics.model.cleaning import clean

        return clean(self, force, kinds, older)

    def doctor(self) -> list[Check]:
        """Look whether everything can be used, with cause and next step where it cannot."""
        from kaptain_magics.model.doctor import doctor

        return doctor(self)

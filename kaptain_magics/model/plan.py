"""Plans: what would be done, complete and unstarted; shown by ``--dry-run`` or started."""

from __future__ import annotations

import io
import pickle
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from kaptain_magics.core.events import Noted
from kaptain_magics.core.objectives import describe_objectives
from kaptain_magics.core.specs import ClusterOptions, EndpointSpec, JobSpec, StudySpec
from kaptain_magics.core.states import RunKind
from kaptain_magics.errors import ScriptError
from kaptain_magics.model.opened_runs import open_run
from kaptain_magics.model.runs import Deployment, Run, TrainingRun
from kaptain_magics.model.sent import make_room
from kaptain_magics.model.study import Study
from kaptain_magics.state import RunRecord
from kaptain_magics.state.sent_values import SENT, SentValues, share
from kaptain_magics.targets.base import GpuTarget
from kaptain_magics.targets.features import Feature, has_feature

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

_H = TypeVar("_H", bound=Run)


class Plan(Generic[_H]):
    """A run that has not been started.

    Args:
        context: Where it would run.
        spec: What would run.
        sent: Values of the notebook that the script finds as globals.
        model_info: The model's name, description and version.
        notes: What the run says first: what was chosen or taken over, and from where.

    Attributes:
        sent_from: File with the values of an earlier run, in the place of ``sent``.
    """

    sent_from = ""

    def __init__(
        self,
        context: Context,
        spec: JobSpec | StudySpec | EndpointSpec,
        sent: Mapping[str, Any] | None = None,
        model_info: Mapping[str, str] | None = None,
        notes: Sequence[str | Noted] = (),
    ) -> None:
        self._context, self.spec, self.notes = context, spec, notes
        self._sent, self._model_info = dict(sent or {}), dict(model_info or {})

    def render(self) -> str:
        """Return what would be said and applied, secrets masked; nothing is started."""
        first = [describe_objectives(self.spec.directed, self.spec.pareto)] if isinstance(self.spec, StudySpec) else []
        notes = [" ".join(f"{note.text}. {note.hint}".rstrip(". ").split()) for note in self._noted()]
        return "\n".join([*(f"# {line}" for line in [*first, *notes]), self._context.target().render(self.spec)])

    def _check_gpus(self) -> None:
        spec = self.spec.job if isinstance(self.spec, StudySpec) else self.spec
        if spec.resources.gpu_limit:
            target = self._context.target()
            if isinstance(target, GpuTarget):
                target.check_gpus(spec.resources.gpu_limit)

    def start(self) -> _H:
        """Start the run in a process of its own and return at once.

        Raises:
            KaptainError: It cannot be started; nothing is left behind.
        """
        from kaptain_magics.supervisor.start_supervisor import start

        pickled = _pickled(self._sent)
        self._check_gpus()
        if pickled:
            self.notes = [*self.notes, *make_room(self._context, len(pickled))]
        record = self._record()
        folder = self._context.store.create(record)
        try:
            if pickled:
                SentValues(Path(self._context.settings.home)).put(pickled, folder.path)
            elif self.sent_from:
                share(Path(self.sent_from), folder.path / SENT)
            start(folder, self._context.secrets, self._context.settings.warm)
        except BaseException:
            self._context.store.discard(folder)
            raise
        # the record's kind decides the class, as the spec's class decides the kind
        return open_run(folder, self._context)  # type: ignore[return-value]

    def _noted(self) -> tuple[Noted, ...]:
        notes = [Noted(text=note) if isinstance(note, str) else note for note in self.notes]
        return (*notes, *self._ignored())

    def _ignored(self) -> list[Noted]:
        """Return a note where options of clusters are given for a target without one: a line has none of these."""
        cluster = (self.spec.job if isinstance(self.spec, StudySpec) else self.spec).cluster
        given = [
            name for name, value in msgspec.structs.asdict(ClusterOptions()).items() if getattr(cluster, name) != value
        ]
        target = self._context.target() if given else None
        if target is None or has_feature(target, Feature.CLUSTER):
            return []
        text = f"the {target.name} target has no cluster: {', '.join(given)} ignored"
        return [Noted(text=text, warning=True, hint="run it on a cluster, or leave the option out")]

    def _record(self) -> RunRecord:
        spec = self.spec
        job = spec if isinstance(spec, JobSpec) else None
        study = spec if isinstance(spec, StudySpec) else None
        endpoint = spec if isinstance(spec, EndpointSpec) else None
        return RunRecord(
            run_id=spec.run_id,
            kind=RunKind.TRAIN if job else RunKind.TUNE if study else RunKind.DEPLOY,
            name=spec.name,
            model_id=spec.model_id,
            target=self._context.settings.target,
            created=time.time(),
            job=job,
            study=study,
            endpoint=endpoint,
            settings=self._context.settings.as_texts(),
            model_info={name: text for name, text in self._model_info.items() if text},
            notes=self._noted(),
        )


class _Sender(pickle.Pickler):
    """Pickles what a job can create again: it does not have the classes and functions of the notebook."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type | types.FunctionType) and value.__module__ == "__main__":
            raise pickle.PicklingError(f"the job does not have the notebook's {value.__qualname__}")
        return NotImplemented


def _pickled(values: Mapping[str, Any]) -> bytes:
    if not values:
        return b""
    for name, value in values.items():
        try:
            _Sender(io.BytesIO()).dump(value)
        except Exception as error:  # a value's own __reduce__ may raise anything
            raise ScriptError(
                f"`{name}` cannot be sent: {error}",
                "create it in the cell, or send plain data instead of open files and connections",
            ) from error
    return pickle.dumps(dict(values), protocol=pickle.HIGHEST_PROTOCOL)


TrainingPlan = Plan[TrainingRun]
StudyPlan = Plan[Study]
DeploymentPlan = Plan[Deployment]

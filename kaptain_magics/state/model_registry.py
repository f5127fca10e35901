"""Models with their revisions, and endpoints: a small JSON file each, changed under a lock and replaced whole."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import MetricSummary
from kaptain_magics.core.names import did_you_mean, endpoint_name, sanitize
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import Direction
from kaptain_magics.errors import NotFoundError, StateError
from kaptain_magics.files import locked, write_whole

_T = TypeVar("_T", bound=msgspec.Struct)


class Revision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A saved state of a model.

    Attributes:
        revision: 32 hexadecimal digits: the name of its folder in the object store.
        stage: ``trained`` or ``tuned``.
        uri: The folder in the object store.
        run_id: The run that made it.
        created: Seconds since 1970.
        framework: The framework it was saved for.
        format: The file format, such as ``joblib``; ``unservable`` for a model that was only kept.
        files: sha256 (hex) of every file by relative path.
        size: Bytes.
        hyperparameters: The values that it was made with.
        metrics: What was reported.
        objective: The metric that its study optimised, for ``tuned``.
        direction: Whether the objective was maximized or minimized.
    """

    revision: str
    stage: str
    uri: str
    run_id: str
    created: float
    framework: str = ""
    format: str = ""
    files: dict[str, str] = {}
    size: int = 0
    hyperparameters: dict[str, Value] = {}
    metrics: dict[str, MetricSummary] = {}
    objective: str = ""
    direction: Direction = Direction.MAXIMIZE


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model: its revisions, the newest last, and what was noted of it."""

    model_id: str
    revisions: tuple[Revision, ...] = ()
    log: tuple[dict[str, str], ...] = ()


class EndpointRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A deployed endpoint, as it was asked for last.

    Attributes:
        name: Its name.
        target: The target that serves it.
        model_id: The model's id.
        run_id: The run that deployed it.
        created: Seconds since 1970.
        spec: What was asked for.
        sources: Where the model of every revision that gets requests was copied from: the URI of a ``Revision``.
    """

    name: str
    target: str
    model_id: str
    run_id: str
    created: float
    spec: EndpointSpec
    sources: dict[str, str] = {}


class Registry:
    """Models and endpoints of a state folder.

    Args:
        home: The state folder.
    """

    def __init__(self, home: Path) -> None:
        self._models = home / "models"
        self._endpoints = home / "endpoints"

    def model(self, model_id: str) -> ModelRecord:
        """Return a model.

        Raises:
            NotFoundError: Nothing is known of it.
        """
        record = _read(self._model_path(model_id), ModelRecord)
        if record is None:
            ids = [m.model_id for m in self.models()]
            hint = did_you_mean(model_id, ids) or f"train it first: %%kaptain_train {model_id}"
            raise NotFoundError(f"there is no model {model_id!r}", hint)
        return record

    def models(self) -> list[ModelRecord]:
        """Return all models, sorted by their ids."""
        return sorted(_read_all(self._models, ModelRecord), key=lambda m: m.model_id)

    def change_model(self, model_id: str, change: Callable[[ModelRecord], ModelRecord]) -> ModelRecord:
        """Read, change and write a model in one step; it is made when it is missing."""
        path = self._model_path(model_id)
        with locked(path.with_suffix(".lock")):
            changed = change(_read(path, ModelRecord) or ModelRecord(model_id=model_id))
            write_whole(path, msgspec.json.encode(changed))
        return changed

    def remove_model(self, model_id: str) -> None:
        """Remove a model's record; its revisions' files are the object store's."""
        path = self._model_path(model_id)
        with locked(path.with_suffix(".lock")):
            path.unlink(missing_ok=True)

    def add_revision(self, model_id: str, revision: Revision) -> None:
        """Add a revision; one that is there already (a resumed supervisor) is replaced."""

        def add(model: ModelRecord) -> ModelRecord:
            others = tuple(r for r in model.revisions if r.revision != revision.revision)
            return msgspec.structs.replace(model, revisions=(*others, revision))

        self.change_model(model_id, add)

    def endpoint(self, name: str) -> EndpointRecord:
        """Return an endpoint by its name or its model's id.

        Raises:
            NotFoundError: There is none.
        """
        record = _read(self._endpoints / f"{endpoint_name(name)}.json", EndpointRecord)
        if record is None:
            similar = did_you_mean(name, [e.name for e in self.endpoints()])
            hint = similar or f"%kaptain endpoints lists them, %kaptain_deploy {name} deploys it"
            raise NotFoundError(f"there is no endpoint {name!r}", hint)
        return record

    def endpoints(self) -> list[EndpointRecord]:
        """Return the records of all endpoints, sorted by name; a record does not say whether its server still runs."""
        return sorted(_read_all(self._endpoints, EndpointRecord), key=lambda e: e.name)

    def endpoint_version(self, name: str) -> tuple[int, int]:
        """Return what differs after every deployment of an endpoint, without reading its record; zeros without one."""
        try:
            written = (self._endpoints / f"{name}.json").stat()
        except OSError:
            return 0, 0
        return written.st_ino, written.st_mtime_ns

    def save_endpoint(self, record: EndpointRecord) -> None:
        """Write an endpoint's record, in the place of the one of the same name."""
        write_whole(self._endpoints / f"{record.name}.json", msgspec.json.encode(record))

    def remove_endpoint(self, name: str) -> None:
        """Remove an endpoint's record; its servers are the target's to stop."""
        (self._endpoints / f"{endpoint_name(name)}.json").unlink(missing_ok=True)
        shutil.rmtree(self._endpoints / endpoint_name(name), ignore_errors=True)

    def write_beside(self, endpoint: str, file: str, text: str) -> Path:
        """Write a file, for this user alone, that goes with an endpoint: its token, an example for it."""
        path = (self._endpoints / endpoint / file).absolute()
        write_whole(path, text.encode())
        return path

    def _model_path(self, model_id: str) -> Path:
        digest = hashlib.sha256(model_id.encode()).hexdigest()[:8]
        return self._models / f"{sanitize(model_id, 50)}-{digest}.json"


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StateError(
            f"{path} cannot be read: {error}", "remove the file: stored models and running endpoints are not affected"
        ) from error


def _read_all(folder: Path, kind: type[_T]) -> list[_T]:
    return [record for path in folder.glob("*.json") if (record := _read(path, kind)) is not None]

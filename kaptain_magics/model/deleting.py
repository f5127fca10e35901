"""Deletes runs, revisions and models that nothing uses: first a list with sizes, then the deletion."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kaptain_magics.core.names import is_model_id
from kaptain_magics.core.states import RunKind
from kaptain_magics.errors import StateError
from kaptain_magics.model.revisions import SHOWN, find_revision
from kaptain_magics.state import ModelRecord, Revision, RunFolder
from kaptain_magics.state.sent_values import SENT, SentValues

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context


class Part(NamedTuple):
    """One thing that goes.

    Attributes:
        text: What it is, and where.
        size: Its bytes.
        remove: Removes it.
    """

    text: str
    size: int
    remove: Callable[[], object]


class Deletion:
    """What would be deleted.

    Args:
        what: What was asked for, such as ``run mnist-job-17921389``.
        parts: What goes with it, in the order in which it is removed.
        stays: What a reader could take for a part of it, and is not.
        check: Raises where something uses it by now.
    """

    def __init__(self, what: str, parts: list[Part], stays: str, check: Callable[[], object]) -> None:
        self.what, self.parts, self.stays, self._check = what, parts, stays, check

    @property
    def size(self) -> int:
        """Bytes of everything that goes."""
        return sum(part.size for part in self.parts)

    def carry_out(self) -> None:
        """Delete it.

        Raises:
            StateError: Something uses it by now.
            KaptainError: A part cannot be removed; what stands before it is.
        """
        self._check()
        for part in self.parts:
            part.remove()


def plan_run_deletion(context: Context, name: str) -> Deletion:
    """Return the deletion of a run: its log, events, figures, files, and the models of a study's trials.

    The model that it saved stays.

    Raises:
        NotFoundError: There is no such run.
        StateError: It goes on, or something uses it.
    """
    folder = context.store.find(name)
    record = folder.record
    if name == record.model_id and name not in (record.name, record.run_id):
        hint = f"name the run: its newest is {record.run_id}; or the whole model: %kaptain delete model {name}"
        raise StateError(f"{name} is a model with runs", hint)

    def check() -> None:
        _check_run(context, folder)

    check()
    saved = [r for r in _revisions(context, record.model_id) if r.run_id == record.run_id]
    stays = ""
    if saved:
        revision = saved[0].revision[:SHOWN]
        stays = f"the model that it saved stays: %kaptain delete revision {record.model_id} {revision} deletes it"
    return Deletion(f"{record.kind} run {record.name}", list(_parts_of_run(context, folder)), stays, check)


def plan_revision_deletion(context: Context, model_id: str, prefix: str) -> Deletion:
    """Return the deletion of a revision of a model.

    Raises:
        ModelError: There is no such revision, or several.
        StateError: An endpoint serves it, or a deployment is copying it.
    """
    revision = find_revision(model_id, context.registry.model(model_id).revisions, prefix)

    def check() -> None:
        _check_revision(context, model_id, revision)

    check()
    stays = "its run stays, with log and figures" if context.folder(revision.run_id).path.exists() else ""
    what = f"{revision.stage} revision {revision.revision[:SHOWN]} of {model_id}"
    return Deletion(what, [_part_of_revision(context, model_id, revision)], stays, check)


def plan_model_deletion(context: Context, model_id: str) -> Deletion:
    """Return the deletion of a model: all of its revisions, and all of its runs.

    Raises:
        NotFoundError: Nothing is known of it.
        StateError: It is deployed, or one of its runs goes on.
    """
    revisions = _revisions(context, model_id)
    folders = [folder for folder in context.store.folders() if _is_of(folder, model_id)]
    if not folders:
        context.registry.model(model_id)  # raises where nothing is known of it

    def check() -> None:
        for revision in revisions:
            _check_revision(context, model_id, revision)
        for folder in folders:
            _check_run(context, folder)

    check()
    parts = [_part_of_revision(context, model_id, revision) for revision in revisions]
    for folder in folders:
        parts += _parts_of_run(context, folder)
    parts.append(Part(f"the record of {model_id}", 0, lambda: context.registry.remove_model(model_id)))
    return Deletion(f"model {model_id}", parts, "", check)


def folder_size(path: Path) -> int:
    """Return the bytes of a folder's files; of files that are shared by links, those that go with the folder."""
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(os.path.join(root, name))
            except OSError:
                continue
            links = 2 if name == SENT else 1  # the store of sent values has one
            total += status.st_size if status.st_nlink <= links else 0
    return total


def stored_size(context: Context, uri: str) -> int:
    """Return the bytes of all objects below a folder of the object store."""
    return sum(entry.size for entry in context.objects().list(uri))


# ---- what uses something -----------------------------------------------------------------------------------------


def _check_run(context: Context, folder: RunFolder) -> None:
    record = folder.record
    if not folder.last_state().state.terminal:
        raise StateError(f"{record.kind} run {record.name} is still running", f"%kaptain stop {record.run_id} ends it")
    for endpoint in context.registry.endpoints():
        if endpoint.run_id == record.run_id:
            hint = f"%kaptain undeploy {endpoint.name} takes it down"
            raise StateError(f"run {record.name} deployed the endpoint {endpoint.name}, which is there", hint)
    for summary in context.runs():
        study = summary.record.study
        if study is not None and study.resume == record.run_id and not summary.state.terminal:
            hint = f"wait for it: %kaptain attach {summary.record.run_id}"
            raise StateError(f"the running study {study.name} continues {record.name}", hint)


def _check_revision(context: Context, model_id: str, revision: Revision) -> None:
    what = f"revision {revision.revision[:SHOWN]} of {model_id}"
    for endpoint in context.registry.endpoints():
        if revision.uri in (endpoint.spec.artifact_uri, *endpoint.sources.values()):
            hint = f"deploy another revision, or take it down: %kaptain undeploy {endpoint.name}"
            raise StateError(f"{what} is served by the endpoint {endpoint.name}", hint)
    for summary in context.runs():
        spec = summary.record.endpoint
        if spec is not None and spec.artifact_uri == revision.uri and not summary.state.terminal:
            raise StateError(f"{what} is being deployed", f"wait for it: %kaptain attach {summary.record.run_id}")


# ---- what belongs to something -----------------------------------------------------------------------------------


def _parts_of_run(context: Context, folder: RunFolder) -> Iterator[Part]:
    record, base = folder.record, context.settings.models_uri
    objects = f"{base}/{record.model_id}/trials/{record.name}"
    if record.kind is RunKind.TUNE and is_model_id(record.model_id):
        size = stored_size(context, objects)
        if size:
            yield Part(f"models of trials under {objects}", size, lambda: context.objects().delete(objects))
    text = f"{record.kind} run {record.run_id} ({record.name})"

    def remove() -> None:
        context.store.remove(folder)
        SentValues(Path(context.settings.home)).sweep()

    yield Part(text, folder_size(folder.path), remove)


def _part_of_revision(context: Context, model_id: str, revision: Revision) -> Part:
    text = f"{revision.stage} revision {revision.revision[:SHOWN]} at {revision.uri}"
    if not revision.uri.startswith(context.settings.models_uri + "/"):
        text += " (its files stay: they are not in the storage of the settings)"
        return Part(text, 0, lambda: _forget(context, model_id, revision))

    def remove() -> None:
        _forget(context, model_id, revision)
        context.objects().delete(revision.uri)

    return Part(text, stored_size(context, revision.uri), remove)


def _forget(context: Context, model_id: str, revision: Revision) -> None:
    """Take a revision off its model's record, so that nothing refers to it when its files go."""

    def without(model: ModelRecord) -> ModelRecord:
        others = tuple(r for r in model.revisions if r.revision != revision.revision)
        return msgspec.structs.replace(model, revisions=others)

    context.registry.change_model(model_id, without)


def _revisions(context: Context, model_id: str) -> tuple[Revision, ...]:
    return next((m.revisions for m in context.registry.models() if m.model_id == model_id), ())


def _is_of(folder: RunFolder, model_id: str) -> bool:
    try:
        return folder.record.model_id == model_id
    except StateError:
        return False

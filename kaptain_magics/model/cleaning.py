"""Finds what ended and killed runs have left behind, and removes it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kaptain_magics.core.names import is_model_id
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.errors import KaptainError, StateError
from kaptain_magics.model.deleting import folder_size
from kaptain_magics.model.run_files import run_files
from kaptain_magics.model.sent import unneeded
from kaptain_magics.state.sent_values import SentValues
from kaptain_magics.targets.base import Cleanable, ListensHere, ServingTarget
from kaptain_magics.views import formats

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context
    from kaptain_magics.state import RunFolder

_TEMPORARY = ("work.tar.gz", "fetched.pkl")  # ends of the names of temporary objects beside a model
_STARTING = 5.0  # seconds until the supervisor that puts a killed study in order is at work
_TIDYING = 60.0  # seconds that it may take


KINDS = ("leftovers", "sent", "work", "figures", "trials")
"""What can be cleaned by name: ours that nothing uses, sent values that no study needs, and what is the person's."""

_OURS = KINDS[:2]  # cleaned where none is named
_PLACES = {  # what belongs to the person, below a run's folder
    "work": ("work", "files that the script wrote"),
    "figures": ("displays", "figures and tables"),
    "trials": ("trials", "logs and files of trials"),
}


class _Leftover(NamedTuple):
    text: str
    remove: Callable[[], object]
    size: int = 0
    kind: str = "leftovers"
    since: float = 0.0  # when its run ended, in seconds since 1970; 0 where that is not known


def clean(context: Context, force: bool, kinds: Collection[str] = (), older: float = 0.0) -> list[str]:
    """Find what is left behind and, with ``force``, remove it; see ``Workspace.clean``."""
    if force:
        _settle(context)
    kinds, until = kinds or _OURS, time.time() - older
    lines = []
    for leftover in _leftovers(context, kinds):
        if leftover.kind not in kinds or (older and leftover.since > until):
            continue
        try:
            if force:
                leftover.remove()
            lines.append(f"{leftover.text} ({formats.size(leftover.size)})" if leftover.size else leftover.text)
        except (KaptainError, OSError) as error:  # the others go on
            lines.append(f"{leftover.text}: cannot be removed now: {error}")
    if force:
        SentValues(Path(context.settings.home)).sweep()
    for name in _target_names(context) if "leftovers" in kinds and not older else ():
        try:
            target = context.target(name)
            if isinstance(target, Cleanable):
                lines += target.clean(force)
        except KaptainError as error:
            lines.append(f"{name}: cannot be cleaned now: {error.message}")
    return lines


def kept(context: Context) -> dict[str, tuple[int, int]]:
    """Return what is cleaned by name only, which is the person's: its runs and its bytes, by kind."""
    totals: dict[str, tuple[int, int]] = {}
    for leftover in _folders(context):
        if leftover.kind in _PLACES:
            count, size = totals.get(leftover.kind, (0, 0))
            totals[leftover.kind] = (count + 1, size + leftover.size)
    return totals


def _leftovers(context: Context, kinds: Collection[str]) -> Iterator[_Leftover]:
    """Yield the leftovers; where one place cannot be looked into, the others still are."""
    sources: tuple[tuple[str, Callable[[Context], Iterator[_Leftover]]], ...] = (
        ("folders", _folders),
        ("sent values", _sent),
    )
    if "leftovers" in kinds:
        sources += (("endpoints' folders", _unlisted), ("objects", _objects), ("temporary objects", _carried))
    for what, look in sources:
        leftovers = look(context)
        while True:
            try:
                yield next(leftovers)
            except StopIteration:
                break
            except (KaptainError, OSError) as error:
                yield _Leftover(f"{what} cannot be checked now: {error}", bool)
                break


def _settle(context: Context) -> None:
    """Wait until killed studies are put in order: the best model is kept before anything of theirs is removed."""
    from kaptain_magics.supervisor.study_run import TIDIED

    unfinished = (RunState.FAILED, RunState.STOPPED)
    studies = [s.record.run_id for s in context.runs() if s.record.kind is RunKind.TUNE and s.state in unfinished]
    # A study: no supervisor yet (5 s at most) -> supervisor at work (60 s at most) -> tidied, or given up.
    for folder in map(context.folder, studies):
        started, worked = time.monotonic(), False
        while not (folder.path / TIDIED).exists():
            working = folder.lock.held_by_other()
            if (worked and not working) or time.monotonic() - started > (_TIDYING if working else _STARTING):
                break  # it cannot be done now; ``context.runs()`` begins it again
            worked = working
            time.sleep(0.02)


def _folders(context: Context) -> Iterator[_Leftover]:
    """Yield what lies in the folders of runs that have ended; their logs and events stay."""
    for folder in context.store.folders():
        try:
            last = folder.last_state()
        except StateError:
            yield _Leftover(f"unreadable run {folder.run_id}", partial(context.store.discard, folder))
            continue
        if not last.state.terminal:
            continue
        copies = folder.path / "files"
        if copies.is_dir():
            text = f"copies of files for run {folder.run_id}"
            yield _Leftover(text, partial(shutil.rmtree, copies, True), folder_size(copies), since=last.time)
        for kind, (name, what) in _PLACES.items():
            path = folder.path / name
            if not path.is_dir():
                continue
            text = f"{what} of run {folder.run_id}"
            if kind == "work" and not _has_files(folder):
                kind, text = "leftovers", f"work folder of run {folder.run_id}"
            yield _Leftover(text, partial(shutil.rmtree, path, True), folder_size(path), kind, last.time)


def _has_files(folder: RunFolder) -> bool:
    """Whether there is something in a run's working folder that a person may want to keep."""
    record = folder.record
    job = record.job or (record.study.job if record.study is not None else None)
    return any(not file.shown for file in run_files(folder.path, job, ended=True))


def _sent(context: Context) -> Iterator[_Leftover]:
    """Yield values that were sent to runs which are not the last of their model."""
    for summary, path in unneeded(context):
        text = f"values that were sent to run {summary.record.run_id}"
        yield _Leftover(text, partial(path.unlink, missing_ok=True), path.stat().st_size, "sent", summary.ended)


def _unlisted(context: Context) -> Iterator[_Leftover]:
    """Endpoints of this machine whose deployment was killed when they served already and were not listed yet."""
    specs = [s.record.endpoint for s in context.runs() if not s.state.terminal]
    in_use = {e.name for e in context.registry.endpoints()} | {spec.name for spec in specs if spec is not None}
    for target_name in _target_names(context):
        target = None
        with contextlib.suppress(KaptainError):  # ``clean`` says so itself
            target = context.target(target_name)
        if isinstance(target, ListensHere) and isinstance(target, ServingTarget):
            for name in target.stored_endpoints():
                if name not in in_use:
                    text = f"endpoint {name}, whose deployment was killed"
                    yield _Leftover(text, lambda t=target, n=name: t.undeploy(n))


def _target_names(context: Context) -> list[str]:
    """Return the targets that may have left something: this machine always, whose workers supervise the runs of all."""
    return sorted({"local", context.settings.target, *(row.record.target for row in context.runs())})


def _objects(context: Context) -> Iterator[_Leftover]:
    """Models in the object store that nothing refers to: trials of ended studies, artifacts of past deployments."""
    store, base = context.objects(), context.settings.models_uri
    deployed = {e.spec.artifact_uri for e in context.registry.endpoints()}
    for summary in context.runs():
        record = summary.record
        if not summary.state.terminal:
            continue
        folder = ""
        if record.kind is RunKind.TUNE:
            folder = f"{base}/{record.model_id}/trials/{record.name}"
        elif record.kind is RunKind.DEPLOY and record.endpoint is not None:
            folder = f"{base}/{record.model_id}/deploy/{record.endpoint.revision}"
        if folder and folder not in deployed and is_model_id(record.model_id) and (entries := store.list(folder)):
            size = sum(entry.size for entry in entries)
            yield _Leftover(f"objects under {folder}", partial(store.delete, folder), size, since=summary.ended)


def _carried(context: Context) -> Iterator[_Leftover]:
    """Objects beside a model that carried files into a job or variables out of it; an ended run removes its own."""
    store, base = context.objects(), context.settings.models_uri
    jobs = [s.record.job for s in context.runs() if s.state.terminal]
    named = [job for job in jobs if job is not None and is_model_id(job.model_id)]
    models = {job.upload_uri.rstrip("/") for job in named if job.upload_uri.startswith(f"{base}/")}
    for folder in sorted({model.rpartition("/")[0] for model in models}):
        for entry in store.list(folder):
            name, _, end = entry.path.partition(".")
            if f"{folder}/{name}" in models and end in _TEMPORARY:
                uri = f"{folder}/{entry.path}"
                yield _Leftover(f"object {uri}", partial(store.delete, uri), entry.size, since=entry.modified)

"""What a job's script uses beside the notebook: read there on this machine, sent to others within limits, and said."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kaptain_magics.core.events import Noted
from kaptain_magics.core.scripts import Input, InputRole
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import ScriptError
from kaptain_magics.targets.base import ReadsHere
from kaptain_magics.views import formats

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

_SENT_BYTES = 100 << 20  # bytes of what was found, and not named with --files: a data set goes only when it is named
_SENT_FILES = 10_000  # the same in files: many small ones are a data set too
_SHOWN = 6  # names in the line that says what is sent


def with_inputs(context: Context, job: JobSpec) -> JobSpec:
    """Return a job with what its script uses beside the notebook, as its target can have it.

    Raises:
        ScriptError: It is too much to be sent without being asked for, or a path is not clear.
    """
    from kaptain_magics.script.inputs import find_inputs

    if job.isolated or not job.script.folders:
        return msgspec.structs.replace(job, inputs=(), place="")
    items, place, _ = find_inputs(job.script)
    job = msgspec.structs.replace(job, inputs=items, place=place)
    if items and not isinstance(context.target(), ReadsHere):
        job = msgspec.structs.replace(job, inputs=tuple(_sendable(job)))
        _check_size(job)
    return job


def notes_on_inputs(context: Context, job: JobSpec) -> list[Noted]:
    """Return what a run says first about files that are sent: which, how large, and which are not."""
    from kaptain_magics.script.inputs import find_inputs

    if job.isolated or not job.script.folders or isinstance(context.target(), ReadsHere):
        return []
    notes = []
    sent = [item for item in job.inputs if item.path in job.placed]
    if sent:
        text = f"Sent with the script, which names it: {_listed(sent)}"
        if len(sent) > 1:
            text += f"; {formats.size(sum(item.size for item in sent))} in all"
        notes.append(Noted(text=f"{text}. --isolated sends only what --files names."))
    inputs = find_inputs(job.script)
    secrets = [path for item in inputs.items for path in _credentials(job, item)]
    if secrets:
        names = ", ".join(secrets[:_SHOWN])
        hint = "name it with --files to send it all the same"
        notes.append(Noted(text=f"Not sent, for it looks like credentials: {names}", warning=True, hint=hint))
    if inputs.lists_folder:
        text = "The script looks through the notebook's folder, which is not sent as a whole"
        notes.append(Noted(text=text, warning=True, hint="name what it needs with --files"))
    return notes


def notes_on_changes(before: Sequence[Input], now: Sequence[Input], since: str, warning: bool = False) -> list[Noted]:
    """Return the line that says which files are not what they were in an earlier run.

    Args:
        before: What that run used.
        now: What is used now.
        since: The earlier run, for the line.
        warning: Whether results of both are compared.
    """
    current = {item.path: item for item in now}
    changed, gone = [], []
    for item in before:
        other = current.get(item.path)
        if other is None and item.source and not Path(item.source).exists():
            gone.append(item.path)
        elif other is not None and _version(other) != _version(item):
            changed.append(item.path)
    notes = []
    if changed:
        text = f"Changed since {since}: {', '.join(changed[:_SHOWN])}. The trials read what is there now"
        hint = "its trials read what was there before: start a new study to compare like with like" if warning else ""
        notes.append(Noted(text=text, warning=warning, hint=hint))
    if gone:
        text = f"Not there any more since {since}: {', '.join(gone[:_SHOWN])}"
        notes.append(Noted(text=text, warning=True, hint="bring it back beside the notebook, or change the script"))
    return notes


def _version(item: Input) -> tuple[int, int, int]:
    return item.size, item.count, item.modified


def _sendable(job: JobSpec) -> Iterator[Input]:
    """Yield what is sent of what was found: no credentials, unless ``--files`` names them."""
    from kaptain_magics.script.inputs import measure, walk_files

    for item in job.inputs:
        secret = set(_credentials(job, item))
        if not secret:
            yield item
            continue
        source = Path(item.source)
        for file in walk_files(source) if source.is_dir() else ():
            place = f"{item.path}/{file.relative_to(source).as_posix()}"
            if place not in secret:
                size, count, modified = measure(file)
                yield Input(path=place, source=str(file), role=item.role, size=size, count=count, modified=modified)


def _credentials(job: JobSpec, item: Input) -> list[str]:
    """Return what of an input looks like credentials, by its path; ``--files`` sends that too."""
    from kaptain_magics.images.build_context import is_credentials
    from kaptain_magics.script.inputs import walk_files

    source = Path(item.source)
    if item.role is InputRole.FOLDER or _is_named(job, item):
        return []
    if source.is_file():
        return [item.path] if is_credentials(source.name, False) else []
    return [
        f"{item.path}/{path.as_posix()}"
        for path in (file.relative_to(source) for file in walk_files(source))
        if is_credentials(path.name, False) or any(is_credentials(part, True) for part in path.parts[:-1])
    ]


def _is_named(job: JobSpec, item: Input) -> bool:
    """Whether ``--files`` names an input, or a folder that holds it."""
    return any(Path(item.source).is_relative_to(path) for path in job.files)


def _check_size(job: JobSpec) -> None:
    """Refuse what is too much to be sent without being asked for; what ``--files`` names is asked for."""
    unasked = [item for item in job.inputs if item.path in job.placed and not _is_named(job, item)]
    size, count = sum(item.size for item in unasked), sum(item.count for item in unasked)
    if size <= _SENT_BYTES and count <= _SENT_FILES:
        return
    largest = sorted(unasked, key=lambda item: (item.size, item.count), reverse=True)
    files = "1 file" if count == 1 else f"{count} files"
    name = os.path.relpath(largest[0].source, job.script.folders[-1])
    raise ScriptError(
        f"the script names {formats.size(size)} in {files} beside the notebook: {_listed(largest[:3])}; without being "
        f"asked to, at most {formats.size(_SENT_BYTES)} and {_SENT_FILES} files are sent",
        f"send it with --files {name}, let the script read it from a place that the job can reach, "
        "or send only what --files names with --isolated",
    )


def _listed(items: Iterable[Input]) -> str:
    items = list(items)
    names = [
        f"{item.path} ({f'{item.count} files, ' if item.count != 1 else ''}{formats.size(item.size)})"
        for item in items[:_SHOWN]
    ]
    further = len(items) - len(names)
    return ", ".join([*names, *([f"{further} more"] if further else [])])

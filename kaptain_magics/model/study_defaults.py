"""What a study takes over from the run whose script it searches, shown in one line."""

from __future__ import annotations

from typing import Any

import msgspec

from kaptain_magics.core.events import Noted
from kaptain_magics.core.specs import ImageSpec, JobOptions, JobSpec
from kaptain_magics.model.requests import TrainingRequest, variables_of
from kaptain_magics.model.spelling import spelled

_OF_THE_LINE = ("timeout", "workers", "cluster")  # not inherited: they fit one run, not the script
_PLAIN = TrainingRequest()


def inherit(request: TrainingRequest, before: JobSpec) -> tuple[TrainingRequest, list[Noted]]:
    """Return a request with the options of an earlier job where it has none, and the line that says which.

    Args:
        request: What is asked of a study's trials.
        before: The job whose script they run.

    Returns:
        The request, and at most one note.
    """
    names = [name for name in JobOptions.__struct_fields__ if name not in (*_OF_THE_LINE, "image", "capture")]
    options: dict[str, Any] = {name: getattr(before, name) for name in ("framework", *names)}
    options |= {"env": variables_of(before), "capture": before.capture}
    changes = {
        name: value
        for name, value in options.items()
        if value and value != getattr(_PLAIN, name) and _is_plain(name, getattr(request, name))
    }
    shown = [text for name, value in changes.items() if name != "framework" for text in spelled(name, value)]
    missing = {
        part: getattr(before.image, part)
        for part in ImageSpec.__struct_fields__
        if getattr(before.image, part) and not getattr(request.image, part)
    }
    changes["image"] = msgspec.structs.replace(request.image, **missing)
    shown += spelled("image", ImageSpec(**missing))
    full = msgspec.structs.replace(request, script=before.script, **changes)
    text = f"taken over from the last {before.phase} run, {before.name}: {', '.join(shown)}"
    return full, [Noted(text=text)] if shown else []


def _is_plain(name: str, value: Any) -> bool:
    return not value or value == getattr(_PLAIN, name)

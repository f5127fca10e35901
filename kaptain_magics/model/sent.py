"""Which runs keep the values that they were sent, so that the disk does not fill with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kaptain_magics.core.events import Noted
from kaptain_magics.core.resources import quantity
from kaptain_magics.core.states import RunKind
from kaptain_magics.state import RunSummary
from kaptain_magics.state.sent_values import SENT, SentValues, distinct_size
from kaptain_magics.views import formats

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context


def unneeded(context: Context) -> Iterator[tuple[RunSummary, Path]]:
    """Yield the ended runs that have values and are not the last of their model, the oldest first.

    The last training or study of a model keeps its values: a study of that script needs them, and so does --resume.
    """
    last: set[str] = set()
    rows = []
    for summary in context.runs():  # the newest first
        record = summary.record
        if record.kind is RunKind.DEPLOY:
            continue
        path = context.folder(record.run_id).path / SENT
        if record.model_id in last and summary.state.terminal and path.exists():
            rows.append((summary, path))
        last.add(record.model_id)
    yield from reversed(rows)


def make_room(context: Context, size: int) -> list[Noted]:
    """Free values of earlier runs until those that are kept, and new ones, fit into the setting ``sent_limit``.

    Args:
        context: Where the runs are.
        size: Bytes that are about to be sent.

    Returns:
        A note where something was freed, or does not fit.
    """
    limit = quantity(context.settings.sent_limit, "sent_limit")
    kept = [path for folder in context.store.folders() if (path := folder.path / SENT).exists()]
    total, freed, count = distinct_size(kept) + size, 0, 0
    store = SentValues(Path(context.settings.home))
    if total <= limit:
        return []
    for _, path in unneeded(context):
        if total - freed <= limit:
            break
        path.unlink(missing_ok=True)
        freed += store.sweep()
        count += 1
    if not count:
        return []
    text = f"freed {formats.size(freed)} that were sent to {count} earlier run{'s' if count > 1 else ''}"
    return [Noted(text=f"{text}: more than {context.settings.sent_limit} were kept (the setting sent_limit)")]

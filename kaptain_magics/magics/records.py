"""The verbs of ``%kaptain`` that look back on runs and models, compare them, and change what is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.session import Session

if TYPE_CHECKING:
    from kaptain_magics.model import Workspace

_ROWS = 20  # rows of a list without --limit


def runs(session: Session, workspace: Workspace, arguments: Arguments) -> None:
    """Show runs beside each other: those of a model the best first, else the newest."""
    from kaptain_magics import views

    get = arguments.get
    table = workspace.history(
        arguments.positionals.get("NAME", ""), get("where", ""), get("last"), get("by", ""), get("tag", ())
    )
    session.store(get("into"), table)
    if "NAME" in arguments.positionals:
        views.compare_runs(table, get("limit", _ROWS))
    else:
        views.show_runs(table, get("limit", _ROWS))

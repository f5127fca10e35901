"""``%%kaptain_train``: the cell, or a file, is the script."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any

from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.line_errors import usage_error
from kaptain_magics.magics.line_requests import check_capture, check_target, complete_capture, read_fields
from kaptain_magics.magics.session import Session

if TYPE_CHECKING:
    from kaptain_magics.core.scripts import Script
    from kaptain_magics.model import Workspace


def train(session: Session, workspace: Workspace, arguments: Arguments, cell: str | None) -> Any:
    """Train a model.

    Args:
        session: The notebook.
        workspace: Where it runs.
        arguments: The line.
        cell: The cell below the line; ``None`` for the line form.

    Returns:
        The run; ``None`` for a dry run.
    """
    from kaptain_magics.model.requests import TrainingRequest
    from kaptain_magics.script import typed

    sent = session.values(arguments.get("send", ()), "--send")
    script = read_script(session, arguments, cell, sent)
    if script is None:
        raise usage_error(
            "there is no script",
            "write %%kaptain_train in the first line of its cell, or name a file with --file;"
            " %kaptain rerun trains again what was trained",
        )
    texts = {**arguments.values, **_texts(session.items(arguments.bare, arguments.values))}
    fields = read_fields(arguments, TrainingRequest)
    fields["capture"] = complete_capture(fields.get("capture"), arguments)
    request = TrainingRequest(script=script, parameters=typed(script, texts), sent=sent, **fields)
    check_capture(script, request.capture)
    check_target(workspace, arguments)
    plan = workspace.model(arguments.positionals["NAME"]).plan_training(request)
    run = session.carry_out(plan, arguments, workspace.settings.on_interrupt)
    if run is not None and not arguments.get("detach"):
        session.shell.user_ns.update(run.fetched)
    return run


def read_script(session: Session, arguments: Arguments, cell: str | None, sent: Mapping[str, Any]) -> Script | None:
    """Return the script of the cell or of ``--file``; ``None`` where there is neither.

    Raises:
        UsageError: There are both.
        ScriptError: It cannot be run.
    """
    from pathlib import Path

    from kaptain_magics.script import capture, expand, read_file

    path = arguments.get("file")
    if path is not None and cell is not None:
        raise usage_error(
            "--file and a cell exclude each other", "write %kaptain_train for the file, in a line of its own"
        )
    if path is not None:
        file = expand(path)
        return capture(read_file(path), file.name, session.variables, tuple(sent), (file.parent, Path.cwd()))
    if cell is None:
        return None
    # The magic's own line counts: editors number it, and so do the tracebacks then.
    return capture(f"\n{cell}", notebook_names=session.variables, sent=tuple(sent), folders=(Path.cwd(),))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values of a dict as a line would spell them; NumPy's numbers become Python's."""
    from kaptain_magics.core.domains import spelled_value

    texts = {}
    for name, value in values.items():
        plain = spelled_value(value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value)
        if not isinstance(plain, (str, int, float, NoneType)):
            raise usage_error(f"{name} is of type {type(value).__name__}", "a hyperparameter is a number or a text")
        texts[name] = str(plain)
    return texts

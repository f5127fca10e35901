"""The verbs of ``%kaptain`` that look back on runs and models, compare them, and change what is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.line_errors import usage_error
from kaptain_magics.magics.session import Session

if TYPE_CHECKING:
    from kaptain_magics.model import Workspace
    from kaptain_magics.model.deleting import Deletion

_ROWS = 20  # rows of a list without --limit: a screen


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


def diff(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    """Show what differs between two runs."""
    from kaptain_magics import views
    from kaptain_magics.model.describe import difference

    one, other = (workspace.work(str(arguments.positionals[name])) for name in ("RUN", "OTHER"))
    views.show_text(difference(workspace, one, other))


def rerun(session: Session, workspace: Workspace, arguments: Arguments) -> Any:
    """Run a training or a study again, where it ran unless the line names a target."""
    from kaptain_magics.config import Settings
    from kaptain_magics.model.rerun import plan_rerun

    name = str(arguments.positionals["RUN"])
    run = workspace.work(name)
    target = run.target
    if "on" not in arguments.options and target != workspace.settings.target:
        workspace = type(workspace)(Settings(**{**vars(workspace.settings), "target": target}))
    plan = plan_rerun(workspace, run.run_id, arguments.values)
    run = session.carry_out(plan, arguments, workspace.settings.on_interrupt)
    return session.shown(run)


def note(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    """Write down what the person notes of a run."""
    from kaptain_magics import views

    run = workspace.work(str(arguments.positionals["RUN"]))
    remove = bool(arguments.get("remove"))
    if remove == bool(arguments.rest):
        raise usage_error("write a text, or --remove", "%kaptain note --help shows an example")
    run.set_note(arguments.rest)
    views.show_text(f"{run.name}: " + (arguments.rest or "the note is removed"))


def tag(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    """Add tags to a run, or take them off."""
    from kaptain_magics import views

    run, tags = workspace.work(str(arguments.positionals["RUN"])), arguments.positionals["TAGS"]
    left = run.untag(*tags) if arguments.get("remove") else run.tag(*tags)
    views.show_text(f"{run.name}: " + (", ".join(left) or "no tags"))


def load(session: Session, workspace: Workspace, arguments: Arguments) -> Any:
    """Load a saved model into the notebook; says which, and which versions are others here."""
    from kaptain_magics import views
    from kaptain_magics.model.loading import load

    positionals = arguments.positionals
    loaded = load(workspace, positionals["NAME"], positionals.get("REVISION", ""))
    views.show_text("\n".join([f"loaded {loaded.text}", *(f"warning: {line}" for line in loaded.differences)]))
    if arguments.get("into"):
        session.store(arguments.get("into"), loaded.model)
        return None
    return loaded.model


def export(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    """Write a model into a folder that serves it, or build the image of that folder."""
    import tempfile
    from pathlib import Path

    from kaptain_magics import views
    from kaptain_magics.model import exporting
    from kaptain_magics.model.export_image import build_export
    from kaptain_magics.script import expand

    name, revision = arguments.positionals["NAME"], arguments.get("revision", "")
    image = arguments.get("image")
    if (image is None) == ("FOLDER" not in arguments.positionals):
        raise usage_error("name a folder or --image", "%kaptain export --help shows both")
    if image is None:
        folder = Path(expand(arguments.positionals["FOLDER"])).resolve()
        done = exporting.export(workspace, name, folder, revision, bool(arguments.get("replace")))
        what = f"{folder} has revision {done.revision.revision[:8]} of {name} with its server: see its README.md"
    else:
        with tempfile.TemporaryDirectory() as scratch:
            done = exporting.export(workspace, name, Path(scratch) / "export", revision)
            build_export(workspace, done.folder, image, lambda _line: None)
        what = f"the image {image} serves revision {done.revision.revision[:8]} of {name}: "
        what += f"docker run --rm -p 127.0.0.1:8080:8080 -e KAPTAIN_TOKEN {image}"
    views.show_text("\n".join([what, *(f"warning: {note}" for note in done.notes)]))


def delete(session: Session, workspace: Workspace, arguments: Arguments) -> None:
    """Delete a run, a revision or a model: what goes is shown first, and the person is asked."""
    from kaptain_magics import views
    from kaptain_magics.views.formats import size

    deletion = _deletion(workspace, arguments)
    lines = [f"{size(part.size) if part.size else '-':>9}  {part.text}" for part in deletion.parts]
    total = f"{deletion.what}: {size(deletion.size)}"
    head = "would be deleted:" if arguments.get("dry_run") else "to be deleted:"
    views.show_text("\n".join(filter(None, [head, *lines, total, deletion.stays])))
    if arguments.get("dry_run"):
        return
    if not arguments.get("yes") and not session.confirm(f"Delete {deletion.what}?"):
        views.show_text("nothing is deleted")
        return
    deletion.carry_out()
    views.show_text(f"{deletion.what} is deleted, {size(deletion.size)} are free")


def _deletion(workspace: Workspace, arguments: Arguments) -> Deletion:
    from kaptain_magics.model import deleting

    kind, name = arguments.positionals["KIND"], str(arguments.positionals["NAME"])
    revision = arguments.positionals.get("REVISION")
    if (kind == "revision") != (revision is not None):
        if revision is None:
            raise usage_error("REVISION is missing", f"%kaptain models {name} lists them")
        raise usage_error(f"{revision!r} is not expected here", f"write %kaptain delete {kind} {name}")
    if kind == "revision":
        return deleting.plan_revision_deletion(workspace, name, str(revision))
    return (deleting.plan_run_deletion if kind == "run" else deleting.plan_model_deletion)(workspace, name)

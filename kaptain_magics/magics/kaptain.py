"""``%kaptain``: everything at a glance, and the verbs that look at it and change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kaptain_magics.magics import records
from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.line_errors import usage_error
from kaptain_magics.magics.session import Session

if TYPE_CHECKING:
    from kaptain_magics.model import Workspace

_ROWS = 20  # trials that a list shows without --limit: a screen


def overview(workspace: Workspace) -> None:
    """Show the newest runs, the models and the endpoints."""
    from kaptain_magics import views

    views.show_runs(workspace.history(last=5))
    views.show_models(workspace.models())
    views.show_endpoints(workspace.endpoints())


def carry_out(verb: str, session: Session, workspace: Workspace, arguments: Arguments) -> Any:
    """Carry out a verb.

    Args:
        verb: Its name.
        session: The notebook.
        workspace: What it works on.
        arguments: The line behind it.

    Returns:
        The verb's result: a run, an array of predictions, or ``None``.
    """
    return _VERBS[verb](session, workspace, arguments)


def _trials(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics import views

    study = workspace.study(arguments.positionals.get("STUDY", ""))
    if arguments.get("journal"):
        path = study.journal(arguments.get("journal"))
        views.show_text(f"{path} has the study {study.name}; optuna-dashboard {path} shows it")
    else:
        at_most = None if arguments.get("all") else arguments.get("limit", _ROWS)
        views.show_trials(study, study.trials, at_most)


def _models(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics import views

    name = arguments.positionals.get("NAME")
    if name is None:
        views.show_models(workspace.models())
    else:
        views.show_revisions(workspace.registry.model(name), workspace.deployed(name))


def _endpoints(_: Session, workspace: Workspace, _arguments: Arguments) -> None:
    from kaptain_magics import views

    views.show_endpoints(workspace.endpoints())


def _run_name(workspace: Workspace, arguments: Arguments) -> str:
    """Return the run that the line names, else the newest one that goes on, else the newest."""
    from kaptain_magics.errors import NotFoundError

    if "RUN" in arguments.positionals:
        return str(arguments.positionals["RUN"])
    runs = workspace.runs()
    if not runs:
        raise NotFoundError("there are no runs yet", "start one with %%kaptain_train NAME")
    return next((r for r in runs if not r.state.terminal), runs[0]).record.run_id


def _logs(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics import views

    run = workspace.run(_run_name(workspace, arguments))
    views.show_text(run.log(arguments.get("lines")) or f"{run.name} has no log here")


def _attach(session: Session, workspace: Workspace, arguments: Arguments) -> Any:
    run = workspace.run(_run_name(workspace, arguments))
    return session.shown(session.show(run, arguments, arguments.get("on_interrupt", "detach")))


def _stop(session: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics import views
    from kaptain_magics.core.states import RunState

    run = workspace.stop(arguments.positionals["RUN"])
    session.shown(run)
    stopped = run.state is RunState.STOPPED
    views.show_text(f"{run.name} stopped" if stopped else f"{run.name} was not stopped, it has {run.state}")


def _resume(session: Session, workspace: Workspace, arguments: Arguments) -> Any:
    study = workspace.resume(arguments.positionals["RUN"])
    return session.shown(session.show(study, arguments, workspace.settings.on_interrupt))


def _predict(session: Session, workspace: Workspace, arguments: Arguments) -> Any:
    try:
        code = compile(arguments.rest, "<expression>", "eval")
        value = eval(code, session.shell.user_global_ns, session.shell.user_ns)
    except Exception as error:  # whatever the person's expression raises is one line, as any mistake in a line
        what, hint = f"{type(error).__name__}: {error}", "write a Python expression"
        if "--" in arguments.rest:
            hint += "; options stand before it"
        name = getattr(error, "name", None) if isinstance(error, NameError) else None
        script = _script_with(workspace, str(arguments.positionals["NAME"]), name) if name else ""
        if script:
            what = f"{name} is a variable of the training {script}, which ran in its own process"
            hint = f"bring it here with --fetch {name}"
        raise usage_error(f"{arguments.rest}: {what}", hint) from None
    endpoint = workspace.endpoint(arguments.positionals["NAME"])
    proba, output = arguments.get("proba", False), arguments.get("output", "")
    answer = endpoint.predict(value, timeout=arguments.get("timeout", 30.0), proba=proba, output=output)
    return _labelled(answer, endpoint.classes, value) if proba else answer


def _labelled(probabilities: Any, classes: list[Any], data: Any) -> Any:
    """Return probabilities as a frame with the classes as columns, where pandas is installed and they are known."""
    from importlib.util import find_spec

    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes) or find_spec("pandas") is None:
        return probabilities
    import pandas as pd

    same = isinstance(data, pd.DataFrame) and len(data) == len(probabilities)
    return pd.DataFrame(probabilities, index=data.index if same else None, columns=classes)


def _script_with(workspace: Workspace, endpoint: str, name: str) -> str:
    """Return what the script of an endpoint's model is, where that has a variable of that name; empty otherwise."""
    from kaptain_magics.errors import KaptainError
    from kaptain_magics.model.tuning import last_script
    from kaptain_magics.script import assigns
    from kaptain_magics.script.capture import CELL

    try:
        model_id = workspace.registry.endpoint(endpoint).model_id
    except KaptainError:  # the name of a model that is not deployed
        model_id = endpoint
    try:
        script = last_script(workspace, model_id).script
    except KaptainError:
        return ""
    if not assigns(script, name):
        return ""
    return "cell" if script.name == CELL else f"script {script.name}"


def _canary(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    endpoint = workspace.endpoint(arguments.positionals["NAME"])
    endpoint.set_canary(arguments.positionals["PERCENT"])
    _show_status(endpoint)


def _promote(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    endpoint = workspace.endpoint(arguments.positionals["NAME"])
    endpoint.promote()
    _show_status(endpoint)


def _rollback(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    endpoint = workspace.endpoint(arguments.positionals["NAME"])
    endpoint.rollback()
    _show_status(endpoint)


def _show_status(endpoint: Any) -> None:
    from kaptain_magics import views

    views.show_endpoints([endpoint.status()])


def _undeploy(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics import views

    endpoint = workspace.endpoint(arguments.positionals["NAME"])
    existed = endpoint.undeploy()
    gone = f"{endpoint.name} was already gone; its record and leftovers are removed"
    views.show_text(f"{endpoint.name} is taken down" if existed else gone)


def _clean(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics import views

    force, kinds = bool(arguments.get("force")), arguments.positionals.get("KINDS", ())
    lines = workspace.clean(force, kinds, arguments.get("older", 0.0))
    head = "removed:" if force else "left behind; the same line with --force removes it:"
    text = [head, *(f"  {line}" for line in lines)] if lines else ["nothing is left behind"]
    views.show_text("\n".join([*text, *(() if kinds else _kept(workspace))]))


def _kept(workspace: Workspace) -> Iterator[str]:
    """Yield a line for each kind of what is the person's, which is cleaned by name only."""
    from kaptain_magics.model.cleaning import kept
    from kaptain_magics.views.formats import size

    for kind, (count, total) in kept(workspace).items():
        runs = "1 run" if count == 1 else f"{count} runs"
        yield f"kept: {kind} of {runs} ({size(total)}); %kaptain clean {kind} --older 30d lists what is older"


def _doctor(_: Session, workspace: Workspace, _arguments: Arguments) -> None:
    from kaptain_magics import views

    views.show_checks(workspace.doctor())


def _show(_: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics import views

    run = workspace.work(_run_name(workspace, arguments))
    if "FILE" in arguments.positionals:
        views.show_file(run.file(str(arguments.positionals["FILE"])))
        return
    views.show_text(workspace.describe(run.run_id))
    views.show_files(run.files, run.run_id)


_VERBS: dict[str, Callable[[Session, Workspace, Arguments], Any]] = {
    "runs": records.runs,
    "trials": _trials,
    "models": _models,
    "endpoints": _endpoints,
    "logs": _logs,
    "attach": _attach,
    "stop": _stop,
    "resume": _resume,
    "predict": _predict,
    "canary": _canary,
    "promote": _promote,
    "rollback": _rollback,
    "undeploy": _undeploy,
    "clean": _clean,
    "load": records.load,
    "export": records.export,
    "delete": records.delete,
    "diff": records.diff,
    "rerun": records.rerun,
    "note": records.note,
    "tag": records.tag,
    "doctor": _doctor,
    "show": _show,
}

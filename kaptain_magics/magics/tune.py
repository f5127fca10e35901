"""``%kaptain_tune``: search the hyperparameters of the model's script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaptain_magics.errors import NotFoundError
from kaptain_magics.magics.errors import usage_error
from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.job import job_options
from kaptain_magics.magics.session import Session
from kaptain_magics.magics.train import read_script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaptain_magics.core.domains import AnyDomain
    from kaptain_magics.core.events import Noted
    from kaptain_magics.core.specs import Script, StudySpec
    from kaptain_magics.model import Workspace

_COUNTS = ("trials", "parallel", "failed_trials", "goal")
_RESUMABLE = {*_COUNTS, "timeout", "resume", "detach", "on_interrupt", "dry_run", "into", "on", "namespace", "context"}


def tune(session: Session, workspace: Workspace, arguments: Arguments, cell: str | None) -> Any:
    """Search hyperparameters.

    Args:
        session: The notebook.
        workspace: Where it runs.
        arguments: The line.
        cell: The domains below the line; ``None`` for the line form.

    Returns:
        The study; ``None`` for a dry run.
    """
    model_id = arguments.positionals["NAME"]
    model = workspace.model(model_id)
    on_interrupt = arguments.get("on_interrupt", workspace.settings.on_interrupt)
    domains = _domains(session, arguments, cell)
    if arguments.get("resume"):
        others = [name for name in arguments.options if name not in _RESUMABLE] + list(domains)
        if others:
            raise usage_error(
                f"--resume goes on as the study was, without {others[0].replace('_', '-')}",
                "only --trials, --parallel, --failed-trials, --goal and --timeout may change",
            )
        plan = model.plan_tuning(resume=True, **arguments.given(*_COUNTS, "timeout"))
        return session.carry_out(plan, arguments, on_interrupt)

    from kaptain_magics.model.planning import last_script
    from kaptain_magics.script.values import canonical, check_domain

    sent = session.values(arguments.get("send", ()), "--send")
    script = read_script(session, arguments, None, sent)
    if script is None:
        before = last_script(workspace, model_id)
        sent = session.values(before.capture.send, "--send") | sent
    known: Script = script or before.script
    search = _search(arguments)
    last = None if domains and "objectives" in search else _last_study(workspace, model_id)
    notes = []
    if last is not None:
        notes = _same_search(last, search, domains)
        search = {"objectives": last.objectives, "direction": last.direction, "goal": last.goal} | search
        domains = domains or dict(last.domains)
    for name, domain in domains.items():
        check_domain(known, name, domain)
    plan = model.plan_tuning(
        script,
        domains={canonical(known, name): domain for name, domain in domains.items()},
        sent=sent,
        **search,
        **job_options(arguments, workspace, known),
    )
    plan.notes = (*notes, *plan.notes)
    return session.carry_out(plan, arguments, on_interrupt)


def _search(arguments: Arguments) -> dict[str, Any]:
    """Return what the line says of the search, under the names of the model's call."""
    from kaptain_magics.core.states import Direction

    if arguments.get("minimize") and arguments.get("maximize"):
        raise usage_error("--minimize and --maximize exclude each other", "write one of them")
    found = arguments.given(*_COUNTS, "algorithm", "early_stopping", "seed")
    if "objective" in arguments.options:
        found["objectives"] = arguments.get("objective")
    if arguments.given("minimize", "maximize"):
        found["direction"] = Direction.MINIMIZE if arguments.get("minimize") else Direction.MAXIMIZE
    for option in ("algorithm", "early_stopping"):
        settings = arguments.get(f"{option}_setting")
        if settings is not None:
            found[f"{option}_settings"] = dict(settings)
    return found


def _domains(session: Session, arguments: Arguments, cell: str | None) -> dict[str, AnyDomain]:
    """Return the domains of the line, of dicts that it names, and of the cell.

    Raises:
        UsageError: One is given twice.
        DomainError: One is none.
    """
    from kaptain_magics.core.domains import Domain
    from kaptain_magics.magics.domains import read_cell, read_domain

    found = {name: read_domain(name, text) for name, text in arguments.values.items()}
    for name, value in session.items(arguments.bare, found).items():
        found[name] = value if isinstance(value, Domain) else read_domain(name, str(value))  # type: ignore[assignment]
    below = {} if cell is None else read_cell(cell)
    for name in below:
        if name in found:
            raise usage_error(f"{name} is given twice, in the line and in the cell", "give it once")
    return found | below


def _same_search(last: StudySpec, search: Mapping[str, Any], domains: Mapping[str, AnyDomain]) -> list[Noted]:
    """Return the line that says what a search takes over from the model's last study."""
    from kaptain_magics.core.events import Noted

    said = [] if domains else [f"{name}={domain}" for name, domain in last.domains.items()]
    if "objectives" not in search:
        said.append(f"--objective {','.join(last.objectives)}")
    if "direction" not in search:
        said.append(f"--{last.direction}")
    if "goal" not in search and last.goal is not None:
        said.append(f"--goal {last.goal:g}")
    return [Noted(text=f"taken over from the last study, {last.name}: {', '.join(said)}")] if said else []


def _last_study(workspace: Workspace, model_id: str) -> StudySpec | None:
    from kaptain_magics.core.states import RunKind

    try:
        return workspace.store.find(model_id, RunKind.TUNE).record.study
    except NotFoundError:
        return None

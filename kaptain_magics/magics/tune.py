"""``%kaptain_tune``: search the hyperparameters of the model's script."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kaptain_magics.errors import NotFoundError
from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.line_errors import usage_error
from kaptain_magics.magics.line_requests import check_capture, check_target, complete_capture, read_fields
from kaptain_magics.magics.options import CONTROL, TUNE
from kaptain_magics.magics.session import Session
from kaptain_magics.magics.train import read_script

if TYPE_CHECKING:
    from kaptain_magics.core.domains import AnyDomain
    from kaptain_magics.core.scripts import Script
    from kaptain_magics.core.specs import JobSpec, StudySpec
    from kaptain_magics.core.states import Direction
    from kaptain_magics.model import Workspace
    from kaptain_magics.model.plan import StudyPlan


_COUNTERS = ("epoch", "step", "iter", "iteration", "batch", "round", "fold")  # printed beside metrics as name=value


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
    on_interrupt = workspace.settings.on_interrupt
    domains = _domains(session, arguments, cell)
    if arguments.get("resume"):
        return session.carry_out(_resumed(workspace, model_id, arguments, domains), arguments, on_interrupt)

    from kaptain_magics.model.requests import TrainingRequest, TuningRequest
    from kaptain_magics.model.tuning import last_script
    from kaptain_magics.script.values import canonical, check_domain

    sent = session.values(arguments.get("send", ()), "--send")
    script = read_script(session, arguments, None, sent)
    if script is None:
        before = last_script(workspace, model_id)
        sent = session.values(before.capture.send, "--send") | sent
    searched: Script = script or before.script
    search = _search(session, arguments)
    last = None if domains and "objectives" in search else _last_study(workspace, model_id)
    inherited = []
    if last is not None and not domains:
        domains = dict(last.domains)
        inherited += [f"{name}={domain}" for name, domain in domains.items()]
    if last is not None and "objectives" not in search:
        search = {
            "objectives": _spelled(last, search.get("direction")),
            "goal": last.goal,
            "pareto": last.pareto,
        } | search
        inherited += [f"--objective {','.join(last.objectives)}"]
        inherited += ["--pareto"] if search["pareto"] else []
        inherited += [f"--goal {last.goal:g}"] if last.goal is not None and search["goal"] == last.goal else []
    chosen = ""
    if script is None and last is None and not search.get("objectives"):
        chosen = _only_metric(workspace, before)
        search |= {"objectives": (chosen,)} if chosen else {}
    for name, domain in domains.items():
        check_domain(searched, name, domain)
    fields = read_fields(arguments, TrainingRequest)
    if script is not None or "capture" in fields or arguments.get("no_model"):
        fields["capture"] = complete_capture(fields.get("capture"), arguments)
    request = TuningRequest(
        job=TrainingRequest(script=script, sent=sent, **fields),
        domains={
            canonical(searched, name): domain.renamed(lambda other: canonical(searched, other))
            for name, domain in domains.items()
        },
        **search,
    )
    check_capture(searched, request.job.capture)
    check_target(workspace, arguments)
    plan = workspace.model(model_id).plan_tuning(request)
    if last is not None and inherited:
        plan.notes = (f"taken over from the last study, {last.name}: {', '.join(inherited)}", *plan.notes)
    if chosen:
        plan.notes = (f"the objective is {chosen}, the only metric of the last run, {before.name}", *plan.notes)
    return session.carry_out(plan, arguments, on_interrupt)


def _only_metric(workspace: Workspace, before: JobSpec) -> str:
    """Return the metric of the model's last run, where it reported one; empty where it reported none.

    Raises:
        UsageError: It reported several.
    """
    with contextlib.suppress(NotFoundError):
        reported = [name for name in workspace.run(before.run_id).metrics if name.lower() not in _COUNTERS]
        if len(reported) > 1:
            listed = ", ".join(reported)
            raise usage_error(f"the last run reported several metrics: {listed}", f"write --objective {reported[-1]}")
        return "".join(reported)
    return ""


def _resumed(workspace: Workspace, model_id: str, arguments: Arguments, domains: Mapping[str, AnyDomain]) -> StudyPlan:
    """Return the plan that goes on with the model's last study."""
    from kaptain_magics.model.tuning import CHANGEABLE, plan_resumption

    others = [f"--{o.name}" for o, _ in arguments.named() if o.key not in (*CHANGEABLE, *CONTROL, "resume")]
    others += domains
    if others:
        changeable = ", ".join(f"--{o.name}" for o in TUNE.options if o.key in CHANGEABLE)
        what = f"--resume continues the study as it was, so {others[0]} cannot be given"
        raise usage_error(what, f"only {changeable} may change")
    check_target(workspace, arguments)
    return plan_resumption(workspace, model_id, {n: v for n, v in arguments.options.items() if n in CHANGEABLE})


def _search(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Return what the line says of the search, by the fields of the request."""
    from kaptain_magics.core.states import Direction
    from kaptain_magics.model.requests import TuningRequest

    fields = read_fields(arguments, TuningRequest)
    objectives = list(arguments.get("objective", ()))
    stated = {Direction(f"{word}imize"): arguments.options[f"{word}imize"] for word in _directions(arguments)}
    if sum(not names for names in stated.values()) > 1:
        raise usage_error("--minimize and --maximize exclude each other", "name a metric after each of them")
    for direction, names in stated.items():
        if not names:
            fields["direction"] = direction
        for name in names:
            _state(session, objectives, name, direction)
    if objectives:
        fields["objectives"] = tuple(objectives)
    return fields


def _directions(arguments: Arguments) -> list[str]:
    """Return ``min`` and ``max`` in the order in which the line has their options."""
    return [key[:3] for key in arguments.options if key in ("minimize", "maximize")]


def _state(session: Session, objectives: list[str], name: str, direction: Direction) -> None:
    """Give an objective a direction; one that is not there yet becomes the next one."""
    from kaptain_magics.core.objectives import split_direction

    name, stated = split_direction(name)
    directions = dict(split_direction(text) for text in objectives)
    if {stated, directions.get(name)} - {None, direction}:
        raise usage_error(f"{name} cannot be both minimized and maximized", "state one direction")
    if name in directions:
        objectives[list(directions).index(name)] = f"{name}:{direction}"
    elif isinstance(session.shell.user_ns.get(name), Mapping):
        raise usage_error(
            f"--{direction} {name}: is `{name}` a metric, or the dict of this notebook?",
            f"write the dict before the option, or --objective {name}:{direction[:3]} for the metric",
        )
    else:
        objectives.append(f"{name}:{direction}")


def _spelled(study: StudySpec, direction: Direction | None) -> list[str]:
    """Return a study's objectives as a line would spell them, the first one with another direction where one is given.

    Its direction stays what it was, also where the name says otherwise.
    """
    first, *others = study.directed
    return [f"{first.name}:{direction or first.direction}", *(f"{o.name}:{o.direction}" for o in others)]


def _domains(session: Session, arguments: Arguments, cell: str | None) -> dict[str, AnyDomain]:
    """Return the domains of the line, of dicts that it names, and of the cell.

    Raises:
        UsageError: One is given twice.
        DomainError: A value is not a domain.
    """
    from kaptain_magics.core.domains import Domain
    from kaptain_magics.magics.domain_texts import read_cell, read_domain

    domains = {name: read_domain(name, text) for name, text in arguments.values.items()}
    for name, value in session.items(arguments.bare, domains).items():
        domains[name] = value if isinstance(value, Domain) else read_domain(name, str(value))  # type: ignore[assignment]
    below = {} if cell is None else read_cell(cell)
    for name in below:
        if name in domains:
            raise usage_error(f"{name} is given twice, in the line and in the cell", "give it once")
    return domains | below


def _last_study(workspace: Workspace, model_id: str) -> StudySpec | None:
    from kaptain_magics.core.states import RunKind

    try:
        return workspace.store.find(model_id, RunKind.TUNE).record.study
    except NotFoundError:
        return None

"""Lists of runs, models, endpoints and checks: a table in a notebook, text in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from kaptain_magics.core.ages import ago
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.views import html, text
from kaptain_magics.views.base import Followable
from kaptain_magics.views.fold import StudyView, view_of
from kaptain_magics.views.formats import clip, duration, local_time, number, size
from kaptain_magics.views.lines import clean
from kaptain_magics.views.live import in_notebook

if TYPE_CHECKING:
    from kaptain_magics.state import ModelRecord, RunSummary
    from kaptain_magics.targets.base import Check, EndpointStatus

_ROWS = 100  # rows of a list at most
_LINES = 5000  # lines of a text in a notebook at most
_CHIPS = {str(state): f"kpt-{state}" for state in RunState} | {
    str(EndpointState.READY): "kpt-succeeded",
    "ok": "kpt-succeeded",
    "no": "kpt-failed",
}


def show_runs(runs: Sequence[RunSummary]) -> None:
    """Show runs, the newest first."""
    rows = [
        (
            str(run.state),
            run.record.model_id,
            str(run.record.kind),
            run.record.target,
            local_time(run.started),
            duration(run.ended - run.started) if run.ended else "",
            run.record.name,
            run.record.run_id,
            run.reason,
        )
        for run in runs[:_ROWS]
    ]
    heads = ("state", "model", "kind", "target", "started", "time", "name", "run", "note")
    _show(heads, rows, len(runs), "no runs yet: start one with %%kaptain_train NAME")


def show_trials(study: Followable, trials: Sequence[TrialChanged], at_most: int | None = None) -> None:
    """Show a study's trials, the best first.

    Args:
        study: The study.
        trials: All of them, as they are now.
        at_most: How many are shown; ``None`` for all.
    """
    view = view_of(study)
    assert isinstance(view, StudyView)
    for trial in trials:
        view.take(trial)
    ranked = view.ranked()[:at_most]
    rows = [html.trial_cells(view, trial) for trial in ranked]
    for trial, row in zip(ranked, rows, strict=True):
        row[0] += "*" if view.is_best(trial) else ""
    empty = f"{study.name} has no trials yet"
    more = f"%kaptain trials {study.run_id} --all shows them all"
    _show(html.trial_heads(view), rows, len(trials), empty, more)


def show_models(models: Sequence[ModelRecord]) -> None:
    """Show models with their newest revision."""
    rows = []
    for model in models[:_ROWS]:
        newest = model.revisions[-1] if model.revisions else None
        metrics = {} if newest is None else newest.metrics
        rows.append(
            (
                model.model_id,
                str(len(model.revisions)),
                "" if newest is None else newest.stage,
                "" if newest is None else newest.framework,
                "" if newest is None else local_time(newest.created),
                ", ".join(f"{name}={number(value.latest)}" for name, value in metrics.items()),
                "" if newest is None else newest.uri,
            )
        )
    heads = ("model", "revisions", "newest", "framework", "saved", "metrics", "where")
    _show(heads, rows, len(models), "no models yet: train one with %%kaptain_train NAME")


def show_revisions(model: ModelRecord, deployed: Mapping[str, int]) -> None:
    """Show a model's revisions, the newest first.

    Args:
        model: The model.
        deployed: Percent of requests by the URI of the revision that gets them.
    """
    rows = [
        (
            revision.revision[:8],
            revision.stage,
            ", ".join(f"{name}={number(value.latest)}" for name, value in revision.metrics.items()),
            size(revision.size) if revision.size else "",
            ago(revision.created),
            "deployed" + (f" {deployed[revision.uri]}%" if deployed[revision.uri] < 100 else "")
            if revision.uri in deployed
            else "",
            revision.framework,
            revision.run_id,
            revision.uri,
        )
        for revision in list(reversed(model.revisions))[:_ROWS]
    ]
    heads = ("revision", "kind", "metrics", "size", "saved", "endpoint", "framework", "run", "where")
    _show(heads, rows, len(model.revisions), f"{model.model_id} has no saved model: train it with %%kaptain_train")


def show_endpoints(endpoints: Sequence[EndpointStatus]) -> None:
    """Show endpoints as they are now; their headers (tokens) are never shown."""
    rows = [
        (
            str(endpoint.state),
            endpoint.name,
            endpoint.model_id,
            endpoint.cluster_url if endpoint.open_with else endpoint.url,  # an address that lasts
            " ".join(f"{revision[:8]}:{percent}%" for revision, percent in endpoint.traffic.items()),
            str(sum(endpoint.requests.values())) if endpoint.requests else "",
            "; ".join(filter(None, (endpoint.reason, endpoint.hint))),
        )
        for endpoint in endpoints[:_ROWS]
    ]
    heads = ("state", "endpoint", "model", "URL", "traffic", "requests", "note")
    _show(heads, rows, len(endpoints), "no endpoints yet: deploy a model with %kaptain_deploy NAME")


def show_checks(checks: Sequence[Check]) -> None:
    """Show what ``%kaptain doctor`` found."""
    rows = [("ok" if check.ok else "no", check.name, check.detail, "" if check.ok else check.hint) for check in checks]
    _show(("", "what", "found", "next step"), rows, len(rows), "nothing to check")


def show_text(value: str) -> None:
    """Show a text as it is: a log, a manifest. A notebook gets its last 5,000 lines."""
    lines = value.splitlines()
    if in_notebook() and len(lines) > _LINES:
        lines = [f"… {len(lines) - _LINES} lines before these are not shown here …", *lines[-_LINES:]]
    plain = "\n".join(clean(line) for line in lines)
    _publish(plain, f'<pre class="kpt-text" tabindex="0">{escape(plain)}</pre>')


def _show(heads: Sequence[str], rows: Sequence[Sequence[str]], total: int, empty: str, all_with: str = "") -> None:
    if not rows:
        _publish(empty, f"<p>{escape(empty)}</p>")
        return
    rows = [tuple(clean(clip(cell, 300).replace("\n", " ")) for cell in row) for row in rows]
    more = f"… and {total - len(rows)} more" if total > len(rows) else ""
    more += f"; {all_with}" if more and all_with else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(_cell(cell, i) for i, cell in enumerate(row))}</tr>" for row in rows)
    table = f'<table class="kpt-list"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    rich = f'<div class="kpt-scroll">{table}</div><small>{more}</small>'
    _publish(text.text_table(heads, rows) + (f"\n{more}" if more else ""), rich)


def _cell(value: str, column: int) -> str:
    if column == 0 and value in _CHIPS:
        return f'<td><span class="kpt-chip {_CHIPS[value]}">{value}</span></td>'
    return f"<td>{escape(value)}</td>"


def _publish(plain: str, rich: str) -> None:
    if not in_notebook():
        sys.stdout.write(plain + "\n")
        return
    from IPython.display import display

    display(
        {"text/plain": plain, "text/html": f'{html.style()}<section class="kpt kpt-wide">{rich}</section>'}, raw=True
    )

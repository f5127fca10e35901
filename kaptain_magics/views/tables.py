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
    from kaptain_magics.model.history import RunRow, RunTable
    from kaptain_magics.state import ModelRecord
    from kaptain_magics.targets.base import Check, EndpointStatus

_ROWS = 100  # rows of a list at most
_METRICS = 4  # metrics of a run in the list of all
_LINES = 5000  # lines of a text in a notebook at most
_CHIPS = {str(state): f"kpt-{state}" for state in RunState} | {
    str(EndpointState.READY): "kpt-succeeded",
    "ok": "kpt-succeeded",
    "no": "kpt-failed",
}


def show_runs(runs: RunTable, at_most: int = _ROWS) -> None:
    """Show runs as they are ordered, with what each reported last."""
    rows = [
        (
            str(row.summary.state),
            row.summary.record.model_id,
            str(row.summary.record.kind),
            ", ".join(f"{name}={number(value)}" for name, value in list(row.metrics.items())[:_METRICS]),
            row.summary.record.target,
            local_time(row.summary.started),
            duration(row.seconds) if row.seconds is not None else "",
            row.summary.record.name,
            row.summary.record.run_id,
            _remark(row),
        )
        for row in runs[:at_most]
    ]
    heads = ("state", "model", "kind", "metrics", "target", "started", "time", "name", "run", "note")
    show_table(heads, rows, len(runs), "no runs yet: start one with %%kaptain_train NAME")


def compare_runs(runs: RunTable, at_most: int = _ROWS) -> None:
    """Show the runs of a model beside each other: metrics, hyperparameters, and what was noted."""
    metrics, values = runs.metrics, runs.hyperparameters
    rows = [
        (
            str(row.summary.state),
            *(number(row.metrics[name]) if name in row.metrics else "" for name in metrics),
            *(text.shown_value(row.hyperparameters.get(name, "")) for name in values),
            str(row.summary.record.kind),
            local_time(row.summary.started),
            duration(row.seconds) if row.seconds is not None else "",
            row.summary.record.run_id,
            _remark(row),
        )
        for row in runs[:at_most]
    ]
    order = runs.order
    named = [f"{name} ({order.direction})" if order and name == order.name else name for name in metrics]
    heads = ("state", *named, *values, "kind", "started", "time", "run", "note")
    show_table(heads, rows, len(runs), "no run fits")


def _remark(row: RunRow) -> str:
    """Return a person's tags and note, and why a run failed."""
    tags = " ".join(f"#{tag}" for tag in row.labels.tags)
    return " ".join(filter(None, (tags, row.labels.note, row.summary.reason)))


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
    show_table(html.trial_heads(view), rows, len(trials), empty, more)


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
    show_table(heads, rows, len(models), "no models yet: train one with %%kaptain_train NAME")


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
    show_table(heads, rows, len(model.revisions), f"{model.model_id} has no saved model: train it with %%kaptain_train")


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
    show_table(heads, rows, len(endpoints), "no endpoints yet: deploy a model with %kaptain_deploy NAME")


def show_checks(checks: Sequence[Check]) -> None:
    """Show what ``%kaptain doctor`` found."""
    rows = [("ok" if check.ok else "no", check.name, check.detail, "" if check.ok else check.hint) for check in checks]
    show_table(("", "what", "found", "next step"), rows, len(rows), "nothing to check")


def show_text(value: str) -> None:
    """Show a text as it is: a log, a manifest. A notebook gets its last 5,000 lines."""
    lines = value.splitlines()
    if in_notebook() and len(lines) > _LINES:
        lines = [f"… {len(lines) - _LINES} lines before these are not shown here …", *lines[-_LINES:]]
    plain = "\n".join(clean(line) for line in lines)
    publish(plain, f'<pre class="kpt-text" tabindex="0">{escape(plain)}</pre>')


def show_table(heads: Sequence[str], rows: Sequence[Sequence[str]], total: int, empty: str, all_with: str = "") -> None:
    """Show rows under their heads.

    Args:
        heads: The heads.
        rows: The rows that are shown.
        total: How many there are.
        empty: The text that is shown where there are none.
        all_with: What shows all of them.
    """
    if not rows:
        publish(empty, f"<p>{escape(empty)}</p>")
        return
    rows = [tuple(clean(clip(cell, 300).replace("\n", " ")) for cell in row) for row in rows]
    more = f"… and {total - len(rows)} more" if total > len(rows) else ""
    more += f"; {all_with}" if more and all_with else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(_cell(cell, i) for i, cell in enumerate(row))}</tr>" for row in rows)
    table = f'<table class="kpt-list"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    rich = f'<div class="kpt-scroll">{table}</div><small>{more}</small>'
    publish(text.text_table(heads, rows) + (f"\n{more}" if more else ""), rich)


def _cell(value: str, column: int) -> str:
    if column == 0 and value in _CHIPS:
        return f'<td><span class="kpt-chip {_CHIPS[value]}">{value}</span></td>'
    return f"<td>{escape(value)}</td>"


def publish(plain: str, rich: str) -> None:
    """Show HTML in a notebook, its text elsewhere."""
    if not in_notebook():
        sys.stdout.write(plain + "\n")
        return
    from IPython.display import display

    display(
        {"text/plain": plain, "text/html": f'{html.style()}<section class="kpt kpt-wide">{rich}</section>'}, raw=True
    )

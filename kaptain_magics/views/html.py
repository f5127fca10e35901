"""Runs as HTML that needs no script: what is saved in the notebook.

Everything that comes from a user or a job is escaped here. Where a front end takes the style and the ARIA attributes
out (a notebook that is not trusted), what is left is still a readable heading, list, picture, table and log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from pathlib import Path

from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.objectives import better
from kaptain_magics.core.states import EndpointState, RunState, TrialState
from kaptain_magics.views import displays, picture, text
from kaptain_magics.views.fold import EndpointView, MetricHistory, RunView, StudyView
from kaptain_magics.views.formats import duration, number, size

_ROWS_SHOWN, _OTHERS_SHOWN, _ROWS_FOLDED = 10, 6, 200  # rows of the table of trials
_LOG_SHOWN = 100  # lines of log in a saved notebook; the file has all of them
_METRICS_SHOWN = 12  # tiles of metrics above the rest of the card
_SYMBOLS = {
    RunState.PENDING: "○",
    RunState.RUNNING: "●",
    RunState.SUCCEEDED: "✓",
    RunState.FAILED: "✕",
    RunState.STOPPED: "■",
}


@cache
def static(name: str) -> str:
    """Return one of the files beside this module that go to the browser."""
    return (Path(__file__).parent / "static" / name).read_text("utf-8")


def style() -> str:
    """Return the style sheet as an element."""
    return f"<style>{static('card.css')}</style>"


def card(view: RunView, now: float) -> str:
    """Return a run's whole card."""
    parts = [head(view, now), *body(view), displays.section(view)]
    if isinstance(view, StudyView):
        parts += [chart(view), trials(view)]
    parts.append(log(view))
    if not view.state.terminal:
        parts.append(f'<p class="kpt-foot"><code>{escape(text.attach_line(view))}</code> shows this run again.</p>')
    label = escape(f"{view.kind} {view.model_id}: {view.state}")
    return f'{style()}<section class="kpt" aria-label="{label}">{"".join(filter(None, parts))}</section>'


def head(view: RunView, now: float) -> str:
    """Return the card's first line: state, model, what it is, time."""
    since = f' data-since="{view.started:.3f}"' if view.started and not view.state.terminal else ""
    passed = duration(view.elapsed(now)) if view.started else ""
    what = escape(f"{view.kind} · {view.target} · {view.name}")
    return (
        f'<div class="kpt-head">{chip(view.state, _SYMBOLS[view.state])} '
        f'<b class="kpt-name">{escape(view.model_id)}</b> '
        f'<span class="kpt-sub" title="run {escape(view.run_id)}">{what}</span> '
        f'<span class="kpt-time" title="elapsed time"{since}>{passed}</span></div>'
    )


def chip(state: str, symbol: str = "") -> str:
    """Return a state as a small label whose colour follows the theme."""
    mark = f'<span class="kpt-mark" aria-hidden="true">{symbol}</span> ' if symbol else ""
    return f'<span class="kpt-chip kpt-{escape(state)}">{mark}{escape(state)}</span>'


def body(view: RunView, live: bool = False) -> Iterator[str]:
    """Yield what is between the first line and the chart: reasons, progress, metrics, facts.

    Args:
        view: The run.
        live: Whether the widget shows it, which serves the buttons that copy.
    """
    if view.reason and view.state is not RunState.SUCCEEDED:
        hint = f"<br>{_lines(view.hint)}" if view.hint else ""
        yield f'<p class="kpt-note kpt-{view.state}" role="alert"><b>{_lines(view.reason)}</b>{hint}</p>'
    for warning in view.warnings:
        hint = f" {_lines(warning.hint)}" if warning.hint else ""
        yield f'<p class="kpt-note kpt-stopped"><b>{_lines(warning.text)}</b>{hint}</p>'
    if isinstance(view, StudyView):
        yield progress(view)
    yield metrics(view)
    yield facts(view, live)


def progress(view: StudyView) -> str:
    """Return how many trials have ended, as a bar and in words."""
    total = max(view.planned, len(view.trials))
    words = [f"{view.finished} of {total} trials"]
    words += [f"{count} {state}" for state, count in view.counts.items() if count and state is not TrialState.SUCCEEDED]
    bar = f'<progress max="{total}" value="{view.finished}" aria-label="trials that have ended"></progress>'
    return f'<div class="kpt-progress">{bar} <span>{" · ".join(words)}</span></div>'


def metrics(view: RunView) -> str:
    """Return the metrics as tiles: name, newest value, history."""
    tiles = [_tile(name, history) for name, history in list(view.metrics.items())[:_METRICS_SHOWN]]
    if isinstance(view, StudyView) and view.best is not None:
        tiles = [
            f'<div class="kpt-tile"><span>{escape(_label(view, name))}</span> <b>{number(summary.latest)}</b></div>'
            for name, summary in view.best.metrics.items()
        ]
    return f'<div class="kpt-tiles">{"".join(tiles)}</div>' if tiles else ""


def _label(view: StudyView, name: str) -> str:
    """Return what the best trial's value of a metric is called: only the first objective's is the best value."""
    return f"best {name}" if name == view.objective else f"{name} of the best trial"


def _tile(name: str, history: MetricHistory) -> str:
    if history.summary is None:
        return ""
    svg = picture.sparkline(history.points)
    alt = f"{name}: {history.count} values from {number(history.summary.min)} to {number(history.summary.max)}"
    image = f' <img src="{picture.data_uri(svg)}" alt="{escape(alt)}" title="{escape(alt)}">' if svg else ""
    step = f" <small>step {history.step}</small>" if history.step is not None else ""
    return (
        f'<div class="kpt-tile"><span>{escape(name)}</span> <b>{number(history.summary.latest)}</b>{step}{image}</div>'
    )


def facts(view: RunView, live: bool = False) -> str:
    """Return what the run has brought: best trial, model, address."""
    rows: list[tuple[str, str]] = []
    if view.state is RunState.SUCCEEDED and view.reason:
        rows.append(("Ended", escape(view.reason)))
    if isinstance(view, StudyView):
        if view.best is not None:
            rows.append(("Best trial", f"<code>{escape(view.best.name)}</code>"))
            rows.append(("Parameters", _code(text.parameters_line(view.best), live)))
        rows += [(f"{count} failed", escape(reason)) for reason, count in text.failures(view)]
    if view.artifact is not None:
        weight = f" <small>{size(view.artifact.size)}</small>" if view.artifact.size else ""
        rows.append(("Model", _code(view.artifact.uri, live) + weight))
    if isinstance(view, EndpointView) and view.endpoint is not None:
        rows += _endpoint_rows(view, live)
    if not rows:
        return ""
    left = 'style="text-align: left"'
    cells = "".join(f'<tr><th scope="row" {left}>{name}</th><td {left}>{value}</td></tr>' for name, value in rows)
    return f'<table class="kpt-facts"><tbody>{cells}</tbody></table>'


def _endpoint_rows(view: EndpointView, live: bool) -> Iterator[tuple[str, str]]:
    endpoint = view.endpoint
    if endpoint is None:
        return
    reason = f" {escape(endpoint.reason)}" if endpoint.reason else ""
    state = {EndpointState.READY: "succeeded"}.get(endpoint.state, str(endpoint.state))
    yield (
        "Endpoint",
        f'<b>{escape(endpoint.name)}</b> <span class="kpt-chip kpt-{state}">{endpoint.state}</span>{reason}',
    )
    yield from ((name, _code(value, live)) for name, value in text.addresses(endpoint))
    if endpoint.traffic:
        shares = " · ".join(
            f"<code>{escape(revision[:8])}</code> {percent} %" for revision, percent in endpoint.traffic.items()
        )
        yield "Traffic", shares


def _code(value: str, live: bool) -> str:
    button = '<button type="button" class="kpt-copy">copy</button>' if live else ""
    return f"<code>{escape(value)}</code>{button}"


def chart(view: StudyView) -> str:
    """Return the objective over the trials as a picture."""
    svg = picture.chart(view)
    if not svg:
        return ""
    value = None if view.best is None else view.value(view.best)
    best = "" if value is None else f", the best {number(value)}"
    alt = escape(f"{view.objective} over {len(view.trials)} trials{best}")
    caption = f"{escape(view.objective)} by trial, {better(view.direction)}; the line is the best so far"
    return f'<div class="kpt-chart"><img src="{picture.data_uri(svg)}" alt="{alt}"><small>{caption}</small></div>'


def trials(view: StudyView) -> str:
    """Return the trials as a table: the best first, then those that failed; the others folded away."""
    if not view.trials:
        return ""
    shown, folded = text.split_trials(view, _ROWS_SHOWN, _OTHERS_SHOWN)
    table = _trials_table(view, shown)
    if folded:
        left = len(folded) - _ROWS_FOLDED
        inner = _trials_table(view, folded[:_ROWS_FOLDED])
        more = f"<p>{left} further trials are in the study's list.</p>" if left > 0 else ""
        table += f"<details><summary>{len(folded)} more trials</summary>{inner}{more}</details>"
    return f'<div class="kpt-trials">{table}</div>'


def trial_heads(view: StudyView) -> list[str]:
    """Return the heads of the table of trials."""
    return ["trial", "state", *view.objectives, *view.parameters, "time", "note"]


def trial_cells(view: StudyView, trial: TrialChanged) -> list[str]:
    """Return a trial's row as plain text, in the order of ``trial_heads``."""
    metrics = trial.metrics
    return [
        str(trial.number),
        str(trial.state),
        *(number(metrics[name].latest) if name in metrics else "" for name in view.objectives),
        *(text.shown_value(trial.parameters.get(name, "")) for name in view.parameters),
        duration(trial.ended - trial.started) if trial.ended and trial.started else "",
        trial.reason,
    ]


def _trials_table(view: StudyView, trials: Sequence[TrialChanged]) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in trial_heads(view))
    rows = []
    for trial in trials:
        number_, state, *cells = trial_cells(view, trial)
        best = view.is_best(trial)
        first = f"<b>★ {number_}</b>" if best else number_
        rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        mark = ' class="kpt-best"' if best else ""
        rows.append(
            f'<tr{mark} title="{escape(trial.name)}"><td>{first}</td><td class="kpt-{state}">{state}</td>{rest}</tr>'
        )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def log(view: RunView) -> str:
    """Return the end of the log, folded away once the run has succeeded."""
    lines = view.log.last(_LOG_SHOWN)
    if not lines:
        return ""
    opened = "" if view.state is RunState.SUCCEEDED else " open"
    return (
        f'<details class="kpt-log"{opened}><summary>{escape(log_summary(view, len(lines)))}</summary>'
        f'<div class="kpt-tail" tabindex="0" role="log"><pre>{escape(chr(10).join(lines))}</pre></div></details>'
    )


def log_summary(view: RunView, shown: int) -> str:
    """Return what the log's heading says."""
    if view.log.total <= shown:
        return f"Log · {view.log.total} lines"
    return f"Log · the last {shown} of {view.log.total:,} lines · %kaptain logs {view.run_id} shows them all"


def _lines(value: str) -> str:
    return escape(value).replace("\n", "<br>")

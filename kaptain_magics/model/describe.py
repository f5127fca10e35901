"""What was run, in words: a run with its exact hyperparameters and script, and the difference of two runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kaptain_magics.core.specs import JobSpec
from kaptain_magics.model.history import RunRow, row_of
from kaptain_magics.state import RunSummary
from kaptain_magics.views import formats
from kaptain_magics.views.text import shown_value

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context
    from kaptain_magics.model.runs import Run


def describe(context: Context, run: Run) -> str:
    """Return what a run is: state, times, notes, hyperparameters, metrics, and its script with numbers of lines."""
    row = _row(context, run)
    record, job = row.summary.record, _job(row)
    took = f", took {formats.duration(row.seconds)}" if row.seconds is not None else ""
    lines = [
        f"{record.kind} {record.model_id} on {record.target}: {row.summary.state}",
        f"run {record.run_id} ({record.name}), started {formats.local_time(row.summary.started)}{took}",
    ]
    lines += [text for text in (row.summary.reason, row.labels.note) if text]
    if row.labels.tags:
        lines.append("tags: " + ", ".join(row.labels.tags))
    if row.hyperparameters:
        given = {name: "" if name in row.given else "  (of the script)" for name in row.hyperparameters}
        lines += _table("hyperparameters:", row.hyperparameters, given)
    if row.metrics:
        lines += _table("metrics:", row.metrics, {})
    if run.artifact_uri:
        lines.append(f"model: {run.artifact_uri}")
    if job is not None:
        lines += [f"{name}: {text}" for name, text in _options(job).items()]
        width = len(str(job.script.source.count("\n") + 1))
        numbered = enumerate(job.script.source.rstrip("\n").split("\n"), start=1)
        lines += [f"script {job.script.name}:", *(f"  {number:>{width}}  {line}".rstrip() for number, line in numbered)]
    return "\n".join(lines)


def difference(context: Context, one: Run, other: Run) -> str:
    """Return what differs between two runs: hyperparameters, metrics, options, files and the script."""
    rows = _row(context, one), _row(context, other)
    jobs = [_job(row) for row in rows]
    names = [f"{row.summary.record.name} ({row.summary.record.run_id})" for row in rows]
    lines = [f"--- {names[0]}", f"+++ {names[1]}"]
    facts = [{"kind": str(row.summary.record.kind), "target": row.summary.record.target} for row in rows]
    states = [{"state": str(row.summary.state)} for row in rows]
    options = [_options(job) if job is not None else {} for job in jobs]
    lines += _changes("hyperparameters:", rows[0].hyperparameters, rows[1].hyperparameters)
    lines += _changes("metrics:", rows[0].metrics, rows[1].metrics)
    lines += _changes("options:", facts[0] | options[0] | states[0], facts[1] | options[1] | states[1])
    files = [_inputs(job) for job in jobs]
    lines += _changes("files beside the notebook:", files[0], files[1])
    before, now = (job.script.source.splitlines() if job is not None else [] for job in jobs)
    script = list(difflib.unified_diff(before, now, lineterm=""))
    lines += ["script:", *script[2:]] if script else ["the scripts are the same" if all(jobs) else ""]
    return "\n".join(filter(None, lines))


def _row(context: Context, run: Run) -> RunRow:
    last = run.folder.last_state()
    ended = last.time if last.state.terminal else 0.0
    record = run.record
    return row_of(
        context,
        RunSummary(record=record, state=last.state, reason=last.reason, started=record.created, ended=ended),
    )


def _job(row: RunRow) -> JobSpec | None:
    record = row.summary.record
    return record.job or (record.study.job if record.study is not None else None)


def _inputs(job: JobSpec | None) -> dict[str, str]:
    """Return what a job used beside the notebook, and which version of it."""
    inputs = job.inputs if job is not None else ()
    return {i.path: f"{i.size} bytes, changed {formats.local_time(i.modified / 1e9)}" for i in inputs}


def _options(job: JobSpec) -> dict[str, str]:
    """Return what a job was asked for beside its hyperparameters, as texts; of variables the names alone."""
    options = {
        "arguments": " ".join(job.args),
        "requirements": ", ".join(job.requirements),
        "files": ", ".join(job.files),
        "sent": ", ".join(job.capture.send),
        "variables": ", ".join(sorted({*job.env, *job.env_names})),
        "workers": str(job.workers) if job.workers > 1 else "",
        "timeout": formats.duration(job.timeout) if job.timeout else "",
    }
    return {name: text for name, text in options.items() if text}


def _table(head: str, values: Mapping[str, Any], remarks: Mapping[str, str]) -> Iterator[str]:
    yield head
    width = max(map(len, values))
    for name, value in values.items():
        yield f"  {name:<{width}}  {_shown(value)}{remarks.get(name, '')}"


def _changes(head: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if not names:
        return []
    width = max(map(len, names))
    return [head, *(f"  {n:<{width}}  {_shown(before.get(n, '-'))} -> {_shown(now.get(n, '-'))}" for n in names)]


def _shown(value: Any) -> str:
    return shown_value(value)

"""The runs of a model beside each other: hyperparameters, metrics, notes; filtered, and the best first."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kaptain_magics.core.conditions import Condition
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.objectives import Objective, read_objectives
from kaptain_magics.core.states import RunKind, RunState
from kaptain_magics.errors import NotFoundError, ScriptError, StateError
from kaptain_magics.model.opened_runs import open_run
from kaptain_magics.model.tables import columns, require_pandas, timestamp
from kaptain_magics.state import Labels, RunSummary, read_labels

if TYPE_CHECKING:
    import pandas

    from kaptain_magics.model.context import Context
    from kaptain_magics.model.runs import Run

_MISSING = object()


class RunRow(NamedTuple):
    """One run as a row.

    Attributes:
        summary: Its record, state and times.
        hyperparameters: What it was given and, for the others that its script takes, what stands in the script; of a
            study those of its best trial.
        given: The names of those that were given on the line, or searched.
        metrics: What it reported last, by name; of a study its best trial.
        labels: The person's note and tags.
    """

    summary: RunSummary
    hyperparameters: dict[str, Any]
    given: frozenset[str]
    metrics: dict[str, float]
    labels: Labels

    @property
    def facts(self) -> dict[str, Any]:
        """What a condition may speak of, beside hyperparameters and metrics."""
        record = self.summary.record
        return {
            "model": record.model_id,
            "kind": str(record.kind),
            "state": str(self.summary.state),
            "target": record.target,
            "run": record.run_id,
            "name": record.name,
            "seconds": self.seconds,
            "note": self.labels.note,
            "tags": self.labels.tags,
        }

    @property
    def seconds(self) -> float | None:
        """How long it took; ``None`` while it goes on."""
        return self.summary.ended - self.summary.started if self.summary.ended else None

    @property
    def values(self) -> dict[str, Any]:
        """Everything that a condition may speak of, by name; a metric stands above a hyperparameter of its name."""
        qualified = {f"params.{name}": value for name, value in self.hyperparameters.items()}
        return {**qualified, **self.facts, **self.hyperparameters, **self.metrics}


class RunTable(list[RunRow]):
    """Runs beside each other.

    Args:
        rows: The runs.
        order: The metric by which the best stands first; ``None`` where the newest does.
    """

    def __init__(self, rows: Iterable[RunRow], order: Objective | None = None) -> None:
        super().__init__(rows)
        self.order = order

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics; the one that decides stands first."""
        names = dict.fromkeys(name for row in self for name in row.metrics)
        first = [self.order.name] if self.order is not None and self.order.name in names else []
        return [*first, *(name for name in names if name not in first)]

    @property
    def hyperparameters(self) -> list[str]:
        """The names of the hyperparameters that some run was given, or that do not have the same value in all."""
        names = dict.fromkeys(name for row in self for name in (*sorted(row.given), *row.hyperparameters))
        return [name for name in names if any(name in row.given for row in self) or self._differs(name)]

    def _differs(self, name: str) -> bool:
        values = [repr(row.hyperparameters.get(name, _MISSING)) for row in self]
        return len(set(values)) > 1

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the runs as a table: what they are, their metrics and hyperparameters, note and tags."""
        frame = require_pandas()
        shown, metrics = self.hyperparameters, self.metrics
        rows = []
        for row in self:
            record, values = row.summary.record, {name: row.metrics.get(name) for name in metrics}
            rows.append(
                {
                    "run": record.run_id,
                    "model": record.model_id,
                    "kind": str(record.kind),
                    "state": str(row.summary.state),
                    **values,
                    **columns({name: row.hyperparameters.get(name) for name in shown}, dict.fromkeys(metrics, 0.0)),
                    "started": timestamp(row.summary.started),
                    "seconds": row.seconds,
                    "target": record.target,
                    "note": row.labels.note,
                    "tags": row.labels.tags,
                    "reason": row.summary.reason,
                }
            )
        return frame.DataFrame(rows).set_index("run") if rows else frame.DataFrame()


def history(
    context: Context,
    model_id: str = "",
    condition: str = "",
    last: int | None = None,
    by: str = "",
    tags: Sequence[str] = (),
) -> RunTable:
    """Return runs beside each other.

    Args:
        context: Where they are.
        model_id: The model whose trainings and studies are meant, the best first; all runs of all models, the newest
            first, where it is empty.
        condition: Which are meant, such as ``accuracy > 0.9 and gamma < 0.01``; see ``core.conditions``.
        last: Take only the newest that fit.
        by: The metric that orders them, as ``accuracy`` or ``loss:min``; that of the model's newest study, else the
            first one that its newest run reported, where it is empty.
        tags: Take only the runs that have all of them.

    Raises:
        NotFoundError: The model has no runs, or the condition speaks of what no run has.
        ScriptError: The condition or the metric is none.
    """
    summaries = context.runs()
    meant = [summary for summary in summaries if _is_meant(summary, model_id)]
    if not (condition or tags or by):
        meant = meant[:last]
    rows = [row_of(context, summary) for summary in meant]
    if model_id and not rows:
        ids = {summary.record.model_id for summary in summaries}
        hint = did_you_mean(model_id, ids) or f"train it first: %%kaptain_train {model_id}"
        raise NotFoundError(f"{model_id} has no runs", hint)
    order = _order(rows, by) if model_id or by else None
    fitting = [row for row in rows if set(tags) <= set(row.labels.tags)]
    if condition:
        fitting = _fitting(fitting, rows, condition)
    fitting = fitting[:last]
    if order is not None:
        fitting = _best_first(fitting, order)
    return RunTable(fitting, order)


def row_of(context: Context, summary: RunSummary) -> RunRow:
    """Return a run as a row."""
    run = open_run(context.folder(summary.record.run_id), context)
    try:
        labels = read_labels(run.folder.path)
    except StateError:
        labels = Labels()
    values, given = effective_hyperparameters(run)
    metrics = {name: metric.latest for name, metric in run.metrics.items()}
    return RunRow(summary, values, frozenset(given), metrics, labels)


def effective_hyperparameters(run: Run) -> tuple[dict[str, Any], list[str]]:
    """Return the hyperparameters that a run had, and the names of those that were given on its line or searched.

    The others are those that its script takes, with the values that stand there.
    """
    record = run.record
    job = record.job or (record.study.job if record.study is not None else None)
    if job is None:
        return {}, []
    given = {name.lstrip("-"): _plain(value) for name, value in {**job.parameters, **run.hyperparameters}.items()}
    defaults = {p.name.lstrip("-"): _plain(p.default) for p in job.script.parameters if p.default and not p.lines}
    return {**defaults, **given}, list(given)


def _plain(value: Any) -> Any:
    """Return what a text of a command line or a script stands for, where it is a plain value."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _is_meant(summary: RunSummary, model_id: str) -> bool:
    record = summary.record
    return not model_id or (record.model_id == model_id and record.kind is not RunKind.DEPLOY)


# ---- the best first ----------------------------------------------------------------------------------------------


def _order(rows: Sequence[RunRow], by: str) -> Objective | None:
    known = dict.fromkeys(name for row in rows for name in row.metrics)
    if by:
        (order,) = read_objectives(by)
        if order.name not in known:
            raise NotFoundError(
                f"no run has reported {order.name}", did_you_mean(order.name, known) or _listed("they have", known)
            )
        return order
    study = next((row.summary.record.study for row in rows if row.summary.record.study is not None), None)
    if study is not None and study.objectives[0] in known:
        return study.directed[0]
    return read_objectives(next(iter(known)))[0] if known else None


def _best_first(rows: Sequence[RunRow], order: Objective) -> list[RunRow]:
    """Return the rows ordered by a metric; those without it, and those with no number, stand last, the newest first."""
    ranked = [row for row in rows if row.metrics.get(order.name, float("nan")) == row.metrics.get(order.name)]
    ranked.sort(key=lambda row: row.metrics[order.name], reverse=order.direction.better(1.0, 0.0))
    ranked.sort(key=lambda row: row.summary.state in (RunState.FAILED, RunState.STOPPED))
    ids = {row.summary.record.run_id for row in ranked}
    return [*ranked, *(row for row in rows if row.summary.record.run_id not in ids)]


# ---- those that fit ----------------------------------------------------------------------------------------------


def _fitting(rows: Sequence[RunRow], known: Sequence[RunRow], text: str) -> list[RunRow]:
    try:
        condition = Condition(text)
    except ValueError as error:
        raise ScriptError(f"{text!r} is not a condition", str(error)) from None
    names = dict.fromkeys(name for row in known for name in row.values)
    spelled = {name: _whole_name(name, names) for name in condition.names} if known else {}
    fitting = []
    for row in rows:
        values: Mapping[str, Any] = row.values
        if condition.holds({name: values.get(whole) for name, whole in spelled.items()}):
            fitting.append(row)
    return fitting


def _whole_name(name: str, names: Iterable[str]) -> str:
    """Return the name that a condition means: itself, or the only one that ends so, as on a training's line."""
    names = list(names)
    if name in names:
        return name
    longer = [n for n in names if n.endswith(f".{name}") and not n.startswith("params.")]
    if len(longer) == 1:
        return longer[0]
    hint = did_you_mean(name, names)
    raise NotFoundError(f"no run has a metric or hyperparameter {name}", hint or _listed("there are", names))


def _listed(what: str, names: Iterable[str]) -> str:
    return f"{what} " + ", ".join(name for name in names if not name.startswith("params."))

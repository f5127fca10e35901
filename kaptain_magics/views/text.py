"""Runs as lines of text: the tutorial's log and progress line, and a short result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from typing import Protocol, TextIO
from urllib.parse import urlsplit

from kaptain_magics.core.events import EndpointChanged, TrialChanged
from kaptain_magics.core.states import RunState, TrialState
from kaptain_magics.views.fold import EndpointView, RunView, StudyView
from kaptain_magics.views.formats import clip, duration, log_line, number, size

_BAR = "Progress: {percentage:3.0f}%|{bar:25}|{n_fmt}/{total_fmt} [time: {elapsed}{postfix}]"
_OPENED = "http://127.0.0.1:8080"  # where a forwarded port is
_ROWS_SHOWN, _OTHERS_SHOWN = 10, 4  # rows of a study's table: with a value, without


def progress_line(view: StudyView, now: float) -> str:
    """Return a study's progress bar in the tutorial's form; tqdm draws it."""
    from tqdm.std import tqdm

    counts = view.counts
    value = None if view.best is None else view.value(view.best)
    best = "" if value is None else f"{view.objective}: {value:.4g}, "
    others = (
        f"trials running: {counts[TrialState.RUNNING]}, pending: {counts[TrialState.PENDING]}, "
        f"failed: {counts[TrialState.FAILED]}, killed: {counts[TrialState.KILLED]}"
    )
    total = max(view.planned, len(view.trials))
    line: str = tqdm.format_meter(view.finished, total, view.elapsed(now), bar_format=_BAR, postfix=best + others)
    return line


def parameters_line(trial: TrialChanged) -> str:
    """Return a trial's parameters as ``%%kaptain_train`` takes them."""
    return " ".join(f"{name}={value}" for name, value in trial.parameters.items())


def curl_line(url: str, needs_token: bool = False) -> str:
    """Return a shell command that asks an endpoint; a token is taken from the variable ``KAPTAIN_TOKEN``."""
    bearer = ' -H "Authorization: Bearer $KAPTAIN_TOKEN"' if needs_token else ""
    return f"curl -s {url} -H 'Content-Type: application/json'{bearer} -d @input.json"


def addresses(endpoint: EndpointChanged) -> list[tuple[str, str]]:
    """Return how an endpoint is reached, as names and values that stay true for as long as it is there."""
    pairs = [("URL", endpoint.url)] if endpoint.url else []
    if endpoint.cluster_url:
        pairs.append(("In the cluster", endpoint.cluster_url))
    if endpoint.open_with:
        pairs.append(("Open it here", endpoint.open_with))
    url = endpoint.url or (_OPENED + urlsplit(endpoint.cluster_url).path if endpoint.open_with else "")
    return [*pairs, ("Try it", endpoint.curl or curl_line(url, endpoint.needs_token))] if url else pairs


def attach_line(view: RunView) -> str:
    """Return the line that shows a run again."""
    return f"%kaptain attach {view.run_id}"


def title(view: RunView, now: float) -> str:
    """Return one line that says what the run is, its state and its time."""
    passed = duration(view.elapsed(now))
    when = f"{view.state} in {passed}" if view.state.terminal else f"{view.state}, {passed}"
    return f"{view.kind} {view.model_id} on {view.target}: {when} ({view.name}, run {view.run_id})"


def facts(view: RunView) -> list[tuple[str, str]]:
    """Return what a run has brought so far, as names and values."""
    pairs: list[tuple[str, str]] = []
    if view.state is RunState.SUCCEEDED and view.reason:
        pairs.append(("ended", view.reason))
    if isinstance(view, StudyView):
        if view.best is not None:
            pairs += [(name, number(m.latest)) for name, m in view.best.metrics.items()]
            if view.pareto is not None:
                numbers = ", ".join(str(trial.number) for trial in view.pareto.trials)
                pairs.append(("Pareto set", f"trials {numbers}; below the one best in {view.objective}"))
            pairs += [("best trial", view.best.name), ("parameters", parameters_line(view.best))]
        pairs += [(f"{count} failed", reason) for reason, count in failures(view)]
    for name, history in view.metrics.items():
        if history.summary is not None:
            pairs.append((name, number(history.summary.latest)))
    if view.artifact is not None:
        weight = f" ({size(view.artifact.size)})" if view.artifact.size else ""
        pairs.append(("model", view.artifact.uri + weight))
    if isinstance(view, EndpointView) and view.endpoint is not None:
        pairs.append(("endpoint", f"{view.endpoint.name} {view.endpoint.state} {view.endpoint.reason}".rstrip()))
        pairs += [(name if name == "URL" else name.lower(), value) for name, value in addresses(view.endpoint)]
    return pairs


def failures(view: StudyView, at_most: int = 3) -> list[tuple[str, int]]:
    """Return the commonest reasons of failed trials with how often each came."""
    counted: dict[str, int] = {}
    for trial in view.trials.values():
        if trial.state is TrialState.FAILED:
            counted[trial.reason] = counted.get(trial.reason, 0) + 1
    return sorted(counted.items(), key=lambda pair: -pair[1])[:at_most]


def result(view: RunView, now: float) -> str:
    """Return the short result of a run: state, metrics, time, where the model is, best trial, address."""
    pairs = facts(view)
    width = max((len(name) for name, _ in pairs), default=0)
    lines = [title(view, now), *(f"  {name:<{width}}  {value}" for name, value in pairs)]
    if view.state is not RunState.SUCCEEDED:
        lines += [f"  {line}" for line in (*view.reason.splitlines(), *view.hint.splitlines())]
    return "\n".join(lines)


def card(view: RunView, now: float, log_lines: int = 20) -> str:
    """Return the text that stands for a card where only text is shown."""
    parts = [result(view, now)]
    if isinstance(view, StudyView) and view.trials:
        parts = [progress_line(view, now), *parts, trials_table(view)]
    if view.log.total:
        parts.append("\n".join(view.log.last(log_lines)))
    if not view.state.terminal:
        parts.append(attach_line(view) + " shows it again")
    return "\n".join(parts)


def trials_table(view: StudyView) -> str:
    """Return the best trials and the failed ones as a table of text."""
    shown, folded = split_trials(view, _ROWS_SHOWN, _OTHERS_SHOWN)
    deciding = view.objectives if view.pareto is not None else (view.objective,)
    heads = ("trial", "state", *deciding, *view.parameters, "time", "")
    rows = []
    for trial in shown:
        measured = view.value(trial) is not None
        values = [trial.latest(name) if measured else None for name in deciding]
        rows.append(
            (
                f"{trial.number}{'*' if view.is_best(trial) else ''}",
                str(trial.state),
                *("" if value is None else number(value) for value in values),
                *(shown_value(trial.parameters.get(name, "")) for name in view.parameters),
                duration(trial.ended - trial.started) if trial.ended and trial.started else "",
                clip(trial.reason, 60),
            )
        )
    return text_table(heads, rows) + (f"\n… and {len(folded)} more trials" if folded else "")


def split_trials(view: StudyView, ranked: int, others: int) -> tuple[list[TrialChanged], list[TrialChanged]]:
    """Return the trials to show, the best ones and a few without a value, and all the rest, in the same order."""
    order = view.ranked()
    valued = sum(view.value(trial) is not None for trial in order)
    shown = order[: min(ranked, valued)] + order[valued : valued + others]
    return shown, order[min(ranked, valued) : valued] + order[valued + others :]


def shown_value(value: object) -> str:
    """Return a hyperparameter's value for a table."""
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def text_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under their heads, each column as wide as its widest cell."""
    table = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


class Status(Protocol):
    """A line that is replaced in place, below the lines that stay."""

    def show(self, line: str) -> None:
        """Replace the line, which may be wider than the place it is shown in."""

    def clear(self) -> None:
        """Take the line away, for lines that stay."""

    def keep(self, line: str) -> None:
        """Show the line for the last time."""


class TerminalStatus:
    """The last line of a terminal.

    Args:
        out: The terminal's stream.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, line: str) -> None:
        """Replace the line, cut to the terminal's width."""
        self._out.write("\r\x1b[2K" + clip(line, shutil.get_terminal_size().columns - 1))

    def clear(self) -> None:
        """Take the line away, so that the next one begins where it stood."""
        self._out.write("\r\x1b[2K")

    def keep(self, line: str) -> None:
        """Leave the line where it is."""
        self._out.write(f"\r\x1b[2K{line}\n")


class PlainStatus:
    """No line in place: only the last one is written, for files and pipes.

    Args:
        out: The stream.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, line: str) -> None:
        """Do nothing: what is written stays."""

    def clear(self) -> None:
        """Do nothing: there is no line in place."""

    def keep(self, line: str) -> None:
        """Write the line, the only one that is written."""
        self._out.write(f"{line}\n")


class StudyProgress:
    """A study's progress line, drawn in place below the lines that stay.

    Args:
        status: Where it is drawn.
    """

    def __init__(self, status: Status) -> None:
        self._status = status
        self._kept = -1  # trials that had ended when the line was shown for good

    def show(self, view: StudyView) -> None:
        """Replace the line, once there are trials."""
        if view.trials:
            self._status.show(progress_line(view, time.time()))

    def make_room(self, view: StudyView) -> None:
        """Take the line away for lines that stay; where no trial runs, they are about the end, and it stays too."""
        if view.finished == len(view.trials):
            self.keep(view)
        self._status.clear()

    def keep(self, view: StudyView) -> None:
        """Show the line for good, once for each number of ended trials."""
        if view.trials and view.finished != self._kept:
            self._kept = view.finished
            self._status.keep(progress_line(view, time.time()))


class TextRenderer:
    """Prints a run: its log as it grows, a study's progress in place, the result at the end.

    Args:
        out: Where to print.
        status: The line that is replaced in place.
        budget: Lines of log printed at most, so that a saved notebook stays small; ``None`` for no limit.
    """

    interval = 0.25

    def __init__(self, out: TextIO, status: Status, budget: int | None = None) -> None:
        self._out = out
        self._status = status
        self._budget = budget
        self._printed = 0  # lines of the log that were printed or skipped
        self._over = False
        self._progress = StudyProgress(status)

    def draw(self, view: RunView) -> None:
        """Print the lines of the log that have come since the last call, and replace the line in place."""
        lines = self._new_lines(view)
        if lines:
            if isinstance(view, StudyView):
                self._progress.make_room(view)
            else:
                self._status.clear()
            self._print(lines)
        if isinstance(view, StudyView):
            self._progress.show(view)
        elif view.log.open_line:
            self._status.show(view.log.open_line)
        self._out.flush()

    def finish(self, view: RunView) -> None:
        """Print the rest of the log and the result."""
        rest = self._new_lines(view)
        self._status.clear()
        if self._over:
            rest = view.log.last(20)
        elif view.log.open_line:
            rest.append(view.log.open_line)
        self._print(rest)
        if isinstance(view, StudyView):
            self._progress.keep(view)
        if view.state in (RunState.FAILED, RunState.STOPPED):
            level = "ERROR" if view.state is RunState.FAILED else "WARNING"
            self._print([log_line(view.ended, view.reason, level)])
        self._print([result(view, view.ended or time.time())])
        if not view.state.terminal:
            self._print([attach_line(view) + " shows it again"])
        self._out.flush()

    def _new_lines(self, view: RunView) -> list[str]:
        missing, lines = view.log.since(self._printed)
        self._printed = view.log.total
        if self._over:
            return []
        if self._budget is not None:
            self._budget -= len(lines)
            if self._budget <= 0:
                self._over = True
                return [*lines, f"… the log is longer: %kaptain logs {view.run_id} shows all of it; its end follows"]
        return [f"… {missing} lines are not shown here …", *lines] if missing else lines

    def _print(self, lines: list[str]) -> None:
        if not lines:
            return
        text = "".join(f"{line}\x1b[0m\n" if "\x1b" in line else f"{line}\n" for line in lines)
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        self._out.write(text.encode(encoding, "replace").decode(encoding))

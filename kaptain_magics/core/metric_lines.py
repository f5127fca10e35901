"""Metrics in what a script prints. The one home of that rule, for every target and for Katib's collector.

A line counts when it is nothing but ``name=value`` pairs between blanks, commas, semicolons, bars or dashes; what a
logger (a time, a level, the logger's name), a counter (``epoch 3/10:``) or a progress bar put in front does not matter.
So ``url=http://host/?x=1&accuracy=7``, ``SVC(gamma=0.001)`` and ``test accuracy=0.9`` are no metrics.

The expressions are those that both Python and RE2 (Katib is written in Go) understand: no look-around, no
back-references, and nothing that could run away on a long line. A semicolon is written by its number, for Katib hands
all expressions over in one text between semicolons.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kaptain_magics.core.colours import COLOURS
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.runtime.text_values import shorten

_B = r"[ \t]{0,16}"  # blanks; every part that may stand beside another one of its kind is bounded
_FINITE = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_ANY = rf"(?:{_FINITE}|[+-]?(?:nan|NaN|inf|Infinity))"
_NAME = r"[A-Za-z_][\w.@/%-]*"
_EQUALS = rf"{_B}={_B}"
_BETWEEN = rf"(?:{_B}[,\x3b|]{_B}|[ \t]{{1,16}}(?:-[ \t]{{1,16}})?)"
_BAR = rf"(?:[^\n]*\r)?[^\r\n|=]{{0,80}}\d%\|[^\r\n|]*\|[^\r\n\[\]]{{0,80}}\[[^\r\n\[\]]*\]{_B}"
_TIME = rf"\[?\d[\dTZ:/.,+-]{{0,40}}(?:[ \t]\d[\dZ:.,+-]{{0,20}})?\]?{_B}[ \t:|-]{_B}"
_LOGGER = r"[\w.<>:]{1,80}"
_LEVEL = (
    rf"(?:{_LOGGER}{_B}[:|-]{_B})?\[?(?:DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL)\]?{_B}"
    rf"(?:[:|-]{_B}{_LOGGER}{_B}[:|-]|[ \t:|-]){_B}"
)
_COUNTER = (
    r"\[?(?:[Ee]poch|EPOCH|[Ss]tep|[Ii]ter|[Ii]teration|[Bb]atch|[Rr]ound|[Ff]old)[ \t:#\[]{0,4}\d{1,12}"
    rf"(?:{_B}/{_B}\d{{1,12}})?\]?{_B}[ \t:,\x3b|-]{_B}(?:-[ \t]{{1,16}})?"
)
_HEAD = rf"{_B}(?:{_BAR})?(?:{_TIME})?(?:{_LEVEL})?(?:{_COUNTER}){{0,3}}"
_END = rf"{_B}\r?"
_LONGEST = 4096  # bytes of a line that is searched: longer ones are data, and would make the expressions slow
_NEARLY = 200  # characters of a line that a message shows
_SEEN_AT_MOST = 20  # names of metrics that a message lists


class MetricLines:
    """Finds metrics in lines of output.

    Args:
        names: The metrics that are looked for; none looks for all.
        settings: Numbers that the script was given or has by name: a line that only repeats one is no metric. What
            is looked for by name always counts.
    """

    def __init__(self, names: Sequence[str] = (), settings: Mapping[str, float] | None = None) -> None:
        self._names, self._settings = frozenset(names), dict(settings or {})
        any_name = "|".join([*(re.escape(name) for name in sorted(names, key=len, reverse=True)), _NAME])
        pair = f"(?:{any_name}){_EQUALS}{_ANY}"
        self._line = re.compile(f"{_HEAD}({pair}(?:{_BETWEEN}{pair})*){_END}".encode())
        self._pair = re.compile(f"({any_name}){_EQUALS}({_ANY})".encode())

    def find(self, data: bytes) -> Iterator[tuple[str, float]]:
        """Yield names and values in whole lines; one that is looked for by name may be NaN or infinite."""
        for text in _lines_with_equals(data):
            line = self._line.fullmatch(text)
            if line is None:
                continue
            pairs = {name.decode(): float(value) for name, value in self._pair.findall(line[1])}
            for name, value in pairs.items():
                if self._names:
                    if name in self._names:
                        yield name, value
                elif math.isfinite(value) and self._settings.get(name.replace("-", "_")) != value:
                    yield name, value


def _lines_with_equals(data: bytes) -> Iterator[bytes]:
    """Yield the lines that could be of metrics; most logs have few of them, which is what makes this fast."""
    equals = data.find(b"=")
    while equals >= 0:
        start, end = data.rfind(b"\n", 0, equals) + 1, data.find(b"\n", equals)
        end = len(data) if end < 0 else end
        if end - start <= _LONGEST:
            yield data[start:end]
        equals = data.find(b"=", end)


def katib_filters(names: Sequence[str]) -> list[str]:
    """Return the expressions of Katib's collector for these metrics, one for each: they find what ``MetricLines`` does.

    The first group is the name, the second the value. Katib cannot use NaN and infinity: they are passed over.
    """
    escaped = {name: _re2_escaped(name) for name in names}
    any_name = "|".join([*sorted(escaped.values(), key=len, reverse=True), _NAME])
    pair = f"(?:{any_name}){_EQUALS}{_ANY}"
    return [
        f"^{_HEAD}(?:{pair}{_BETWEEN})*({escaped[name]}){_EQUALS}({_FINITE})(?:{_BETWEEN}{pair})*{_END}$"
        for name in names
    ]


def _re2_escaped(name: str) -> str:
    """Escape a name; RE2 refuses a backslash before letters that are not ASCII, which Python never writes."""
    return re.sub(r"([\\.+*?()|\[\]{}^$-])", r"\\\1", name).replace(";", r"\x3b")


def explain_missing(name: str, text: str, reported: Iterable[str] = ()) -> tuple[str, str]:
    """Say why a metric is missing.

    Args:
        name: The metric.
        text: The script's log, or its end.
        reported: Names of the metrics that were reported.

    Returns:
        The reason in one sentence, and the hint.
    """
    data = (text + "\n").encode("utf-8", "replace")
    if any(metric == name for metric, _ in MetricLines([name]).find(data)):
        return f"metric `{name}` was printed, but not as a finite number", ""
    seen = list(dict.fromkeys([*reported, *(metric for metric, _ in MetricLines().find(data))]))
    reason = f"metric `{name}` never reported; seen: {', '.join(seen[:_SEEN_AT_MOST]) or 'none'}"
    alike, line = did_you_mean(name, seen), similar_line(name, text)
    if alike:
        return reason, alike
    call = f"{name}=..." if name.isidentifier() else f'{{"{name}": ...}}'
    if line:
        reason += f"; this line looks like it: {line}"
        return reason, f'only a line of nothing but name=value pairs counts: print(f"{name}={{...}}")'
    return reason, f'report it in the script with kaptain.log_metrics({call}) or print(f"{name}={{...}}")'


def similar_line(name: str, text: str) -> str:
    """Return the last line of a log that has the metric and a number but is no line of metrics; empty for none.

    Args:
        name: The metric that was looked for.
        text: The log, or its end.
    """
    words = [re.escape(word) for word in re.split(r"[\W_]+", name) if word]
    if not words:
        return ""
    spelled = r"[\W_]{0,3}".join(words)
    value = rf"(?:{_B}{_ANY}|{_B}(?:[:=]|is\b|->)[^\n]{{0,24}}?\d)"
    pattern = re.compile(rf"(?<![A-Za-z]){spelled}[\"']?{value}", re.IGNORECASE)
    for line in reversed(COLOURS.sub("", text).splitlines()):
        shown = line.strip()
        if len(line) <= _LONGEST and pattern.search(shown):
            return shorten(shown, _NEARLY)
    return ""

"""Pictures that need no script: a study's chart and a metric's course, as SVG in a data URI.

A picture is embedded as ``<img>``: it survives where inline SVG is taken out, and sees nothing of the page around it.
Its colours are therefore readable on white and on black alike.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TypeVar

import msgspec

from kaptain_magics.core.states import Direction, TrialState
from kaptain_magics.views.fold import StudyView
from kaptain_magics.views.formats import number

_T = TypeVar("_T")
_POINTS_AT_MOST = 2000  # points drawn; more are thinned out evenly


class Frame(msgspec.Struct, frozen=True):
    """The axes of a study's chart; the live widget draws into the same frame.

    Attributes:
        low: Lowest value of the vertical axis.
        high: Highest value.
        last: Last trial's number on the horizontal axis.
        y_ticks: Values with their labels on the vertical axis.
        x_ticks: Trials' numbers marked on the horizontal axis.
        goal: Where the goal's line goes, if it is in sight.
        width: Width of the whole picture in pixels, and so on for the others.
    """

    low: float
    high: float
    last: int
    y_ticks: list[tuple[float, str]]
    x_ticks: list[int]
    goal: float | None
    width: int = 720
    height: int = 190
    left: int = 58
    right: int = 14
    top: int = 12
    bottom: int = 26

    def x(self, trial: float) -> float:
        """Return the pixel of a trial's number."""
        return self.left + (self.width - self.left - self.right) * trial / max(1, self.last)

    def y(self, value: float) -> float:
        """Return the pixel of a value; values beyond the axis are put on its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.height - self.bottom - (self.height - self.top - self.bottom) * share


def frame_of(view: StudyView) -> Frame | None:
    """Return the axes that suit a study's values so far; ``None`` when there are none."""
    values = sorted(v for t in view.trials.values() if (v := view.value(t)) is not None)
    if not values:
        return None
    low, high = values[0], values[-1]
    if len(values) >= 8:  # a few diverged trials must not flatten all the others
        first, third = values[len(values) // 4], values[3 * len(values) // 4]
        reach = 3 * (third - first) or high - low
        low, high = (
            (max(low, first - reach), high) if view.direction is Direction.MAXIMIZE else (low, min(high, third + reach))
        )
    span = high - low
    goal = view.goal if view.goal is not None and low - span / 2 <= view.goal <= high + span / 2 else None
    if goal is not None:
        low, high = min(low, goal), max(high, goal)
    margin = (high - low) * 0.06 or abs(high) * 0.01 or 1.0
    low, high = low - margin, high + margin
    last = max(0 if view.state.terminal else view.planned - 1, *view.trials, 1)
    x_ticks = sorted({round(t) for t in ticks(0, last, 6)})
    return Frame(low, high, last, labelled(ticks(low, high, 4)), [t for t in x_ticks if 0 <= t <= last], goal)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about so many round numbers between two bounds."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def labelled(values: Sequence[float]) -> list[tuple[float, str]]:
    """Return ticks with labels that are all different."""
    for digits in range(2, 18):
        labels = [f"{value:.{digits}g}" for value in values]
        if len(set(labels)) == len(labels) and all(
            abs(float(label) - value) <= 1e-9 * max(1.0, abs(value))
            for label, value in zip(labels, values, strict=True)
        ):
            break
    return list(zip(values, labels, strict=True)) if values else []


def chart(view: StudyView) -> str:
    """Return the SVG of the objective over the trials with the running best; empty without values."""
    frame = frame_of(view)
    if frame is None:
        return ""
    trials = [view.trials[n] for n in sorted(view.trials)]
    points = [(t.number, v) for t in trials if (v := view.value(t)) is not None]
    failed = [t.number for t in trials if t.state in (TrialState.FAILED, TrialState.KILLED)]
    floor = frame.height - frame.bottom
    marks = "".join(f"M{_px(frame.x(n))} {floor - 6}v6" for n in thinned(failed))
    dot = 6 if len(points) <= 300 else 4
    step_line = _step_line(frame, running_best(points, view.direction), points[-1][0])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {frame.width} {frame.height}" width="{frame.width}" '
        f'height="{frame.height}" fill="none" font-family="system-ui,sans-serif" font-size="11">',
        f"<title>{escape(view.objective)} of {len(points)} trials</title>",
        *_axes(frame),
        _path(
            _dots(frame, thinned(points)), "#4f8ef7", f'stroke-opacity=".7" stroke-width="{dot}" stroke-linecap="round"'
        ),
        _path(_out_of_range(frame, thinned(points)), "#4f8ef7", 'stroke-width="1.5"'),
        _path(step_line, "#12a594", 'stroke-width="2"'),
        _path(marks, "#e5484d", 'stroke-width="2"'),
    ]
    if view.best is not None and (value := view.value(view.best)) is not None:
        position = f'cx="{_px(frame.x(view.best.number))}" cy="{_px(frame.y(value))}"'
        parts.append(f'<circle {position} r="5.5" stroke="#12a594" stroke-width="2"/>')
    return "".join(parts) + "</svg>"


def _axes(frame: Frame) -> Iterator[str]:
    right, floor = frame.width - frame.right, frame.height - frame.bottom
    for value, label in frame.y_ticks:
        y = frame.y(value)
        yield _path(f"M{frame.left} {_px(y)}H{right}", "#8b93a0", 'stroke-opacity=".22"')
        yield _label(frame.left - 8, y, label, "end")
    for trial in frame.x_ticks:
        yield _label(frame.x(trial), floor + 15, str(trial), "middle")
    if frame.goal is not None:
        y = frame.y(frame.goal)
        yield _path(f"M{frame.left} {_px(y)}H{right}", "#d97706", 'stroke-dasharray="4 4"')
        yield _label(right, y - 8, f"goal {number(frame.goal)}", "end", "#d97706")


def _path(shape: str, colour: str, style: str) -> str:
    return f'<path d="{shape}" stroke="{colour}" {style}/>' if shape else ""


def _label(x: float, y: float, text: str, anchor: str, colour: str = "#7a818c") -> str:
    return f'<text x="{_px(x)}" y="{_px(y)}" dy=".35em" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def sparkline(points: Sequence[tuple[float, float]], width: int = 96, height: int = 24) -> str:
    """Return the SVG of a metric's course; empty for fewer than three finite values."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if len(finite) < 3:
        return ""
    (left, _), (right, _) = finite[0], finite[-1]
    low, high = min(y for _, y in finite), max(y for _, y in finite)
    spots = [
        (
            2 + (width - 4) * (x - left) / ((right - left) or 1),
            height - 3 - (height - 6) * (y - low) / ((high - low) or 1),
        )
        for x, y in finite
    ]
    line = "M" + "L".join(f"{_px(x)} {_px(y)}" for x, y in spots)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<path d="{line}" fill="none" stroke="#4f8ef7" stroke-width="1.5" stroke-linejoin="round"/>'
        f'<circle cx="{_px(spots[-1][0])}" cy="{_px(spots[-1][1])}" r="2.2" fill="#4f8ef7"/></svg>'
    )


def data_uri(svg: str) -> str:
    """Return an SVG as the source of an ``<img>``."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def running_best(points: Iterable[tuple[int, float]], direction: Direction) -> list[tuple[int, float]]:
    """Return the points that were better than all before them."""
    best: list[tuple[int, float]] = []
    for trial, value in points:
        if not best or direction.better(value, best[-1][1]):
            best.append((trial, value))
    return best


def thinned(items: list[_T], at_most: int = _POINTS_AT_MOST) -> list[_T]:
    """Return at most about so many of the items, evenly."""
    return items[:: -(-len(items) // at_most)] if len(items) > at_most else items


def _dots(frame: Frame, points: Iterable[tuple[int, float]]) -> str:
    return "".join(f"M{_px(frame.x(n))} {_px(frame.y(v))}h0" for n, v in points if frame.low <= v <= frame.high)


def _out_of_range(frame: Frame, points: Iterable[tuple[int, float]]) -> str:
    """Return the values that the axis leaves out: arrowheads that point to where they are."""
    heads = ""
    for trial, value in points:
        if not frame.low <= value <= frame.high:
            rise = 5 if value < frame.low else -5
            heads += f"M{_px(frame.x(trial) - 3)} {_px(frame.y(value) - rise)}l3 {rise}l3 {-rise}"
    return heads


def _step_line(frame: Frame, best: Sequence[tuple[int, float]], end: int) -> str:
    path = f"M{_px(frame.x(best[0][0]))} {_px(frame.y(best[0][1]))}"
    for trial, value in best[1:]:
        path += f"H{_px(frame.x(trial))}V{_px(frame.y(value))}"
    return path + f"H{_px(frame.x(end))}"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

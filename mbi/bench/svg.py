"""Small charts as inline SVG: lines over time and bars. Pure functions; colours come from CSS.

Every point carries its exact value as a tooltip, so that a plot can be read without guessing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 560
HEIGHT: Final = 250
LEFT: Final = 58
RIGHT: Final = 14
TOP: Final = 24
BOTTOM: Final = 42
TICKS: Final = 5
MARK_LINES: Final = 5
DOTS_MAX: Final = 20
"""Up to so many points are shown as such; more would hide the line."""
COLOURS: Final = 11
"""Classes ``c0`` to ``c10`` of the style sheet; more series begin again."""

Point = tuple[float, float | None]
"""A value of None leaves a gap in the line."""
Mark = tuple[float, str]
"""A place on the horizontal axis and what happened there."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line."""

    name: str
    points: Sequence[Point]
    is_reference: bool = False
    """Drawn dashed and on top: it often coincides with what is compared with it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One bar made of parts."""

    name: str
    parts: Mapping[str, float]
    """From the bottom to the top."""
    limit: float | None = None
    """Drawn as a line across the bar."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values lie on the picture."""

    x_low: float
    x_high: float
    y_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / ((self.x_high - self.x_low) or 1)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - value / self.y_high * (HEIGHT - TOP - BOTTOM), 1)


def figure(value: object) -> str:
    """Return a value as the report shows it everywhere: figures with separated thousands."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        text = f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)


def ticks(high: float, wanted: int = TICKS) -> list[float]:
    """Return round values from 0 to at least ``high``: steps of 1, 2 or 5 times a power of ten."""
    if high <= 0:
        return [0.0, 1.0]
    raw = high / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [round(step * index, 10) for index in range(math.ceil(high / step * 0.999) + 1)]


def line_chart(
    title: str, x_label: str, y_label: str, series: Sequence[Series], marks: Sequence[Mark] = ()
) -> str:
    """Return a chart of one or more lines; a legend names them if there is more than one."""
    values = [y for item in series for _, y in item.points if y is not None]
    places = [x for item in series for x, _ in item.points]
    if not values:
        return _figure(title, '<p class="empty">nothing was measured</p>', ())
    y_ticks = ticks(max(values))
    x_ticks = ticks(max(places), 8)
    frame = _Frame(min(0.0, *places), max(places) or 1.0, y_ticks[-1])
    parts = [_grid(frame, y_ticks, [tick for tick in x_ticks if tick <= frame.x_high])]
    parts += [_mark(frame, index, mark) for index, mark in enumerate(marks)]
    order = sorted(enumerate(series), key=lambda pair: pair[1].is_reference)
    parts += [_line(frame, index, item) for index, item in order]
    return _figure(title, _svg(title, x_label, y_label, parts), [item.name for item in series])


def bar_chart(title: str, x_label: str, y_label: str, bars: Sequence[tuple[str, float]]) -> str:
    """Return a chart of one bar for each named value."""
    if not any(value for _, value in bars):
        return _figure(title, '<p class="empty">nothing was measured</p>', ())
    y_ticks = ticks(max(value for _, value in bars))
    frame = _Frame(0.0, float(len(bars)), y_ticks[-1])
    parts = [_grid(frame, y_ticks, [])]
    every = -(-len(bars) // 12)
    for index, (name, value) in enumerate(bars):
        left, right, top = frame.x(index + 0.08), frame.x(index + 0.92), frame.y(value)
        parts.append(
            f'<rect class="bar" x="{left}" y="{top}" width="{right - left:.1f}" '
            f'height="{frame.y(0) - top:.1f}" rx="2">{_tip(f"{name}: {figure(value)}")}</rect>'
        )
        if index % every == 0:
            parts.append(_text(frame.x(index + 0.5), HEIGHT - BOTTOM + 15, name, "middle"))
    return _figure(title, _svg(title, x_label, y_label, parts), ())


def stacked_chart(title: str, x_label: str, y_label: str, stacks: Sequence[Stack]) -> str:
    """Return a chart of one bar for each stack, its parts on top of each other, with a legend.

    A part below zero is not drawn: it is an error of measurement that its tooltip could not mend.
    """
    drawn = [
        (stack, [(name, value) for name, value in stack.parts.items() if value > 0])
        for stack in stacks
    ]
    if not any(parts for _, parts in drawn):
        return _figure(title, '<p class="empty">nothing was measured</p>', ())
    names = list(dict.fromkeys(name for stack in stacks for name in stack.parts))
    sums = [sum(value for _, value in parts) for _, parts in drawn]
    y_ticks = ticks(max([*sums, *(stack.limit or 0.0 for stack in stacks)]))
    frame = _Frame(0.0, float(len(stacks)), y_ticks[-1])
    content = [_grid(frame, y_ticks, [])]
    for index, (stack, parts) in enumerate(drawn):
        left, right, height = frame.x(index + 0.15), frame.x(index + 0.85), 0.0
        for name, value in parts:
            top, bottom = frame.y(height + value), frame.y(height)
            height += value
            content.append(
                f'<rect class="part c{names.index(name) % COLOURS}" x="{left}" y="{top}" '
                f'width="{right - left:.1f}" height="{bottom - top:.1f}">'
                f"{_tip(f'{stack.name}, {name}: {figure(value)}')}</rect>"
            )
        if stack.limit is not None:
            y = frame.y(stack.limit)
            line = f'<line class="limit" x1="{left - 6}" x2="{right + 6}" y1="{y}" y2="{y}">'
            content.append(f"{line}{_tip(f'{stack.name}, limit: {figure(stack.limit)}')}</line>")
        content.append(_text(frame.x(index + 0.5), HEIGHT - BOTTOM + 15, stack.name, "middle"))
    return _figure(title, _svg(title, x_label, y_label, content), names)


def _figure(title: str, content: str, names: Sequence[str]) -> str:
    legend = ""
    if len(names) > 1:
        items = "".join(
            f'<span><i class="c{index % COLOURS}"></i>{escape(name)}</span>'
            for index, name in enumerate(names)
        )
        legend = f'<div class="legend">{items}</div>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{legend}{content}</figure>"


def _svg(title: str, x_label: str, y_label: str, parts: Sequence[str]) -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2
    labels = _text(middle, HEIGHT - 6, x_label, "middle") + _text(4, 12, y_label, "start")
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}{labels}</svg>"
    )


def _grid(frame: _Frame, y_ticks: Sequence[float], x_ticks: Sequence[float]) -> str:
    lines = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{frame.y(tick)}" '
        f'y2="{frame.y(tick)}"/>{_text(LEFT - 6, frame.y(tick) + 4, figure(tick), "end")}'
        for tick in y_ticks
    )
    return lines + "".join(
        _text(frame.x(tick), HEIGHT - BOTTOM + 15, figure(tick), "middle") for tick in x_ticks
    )


def _line(frame: _Frame, index: int, series: Series) -> str:
    colour = f"c{index % COLOURS}"
    style = f"line reference {colour}" if series.is_reference else f"line {colour}"
    runs = [
        list(run)
        for is_known, run in itertools.groupby(series.points, lambda point: point[1] is not None)
        if is_known
    ]
    lines = "".join(
        f'<polyline class="{style}" points="'
        + " ".join(f"{frame.x(x)},{frame.y(y or 0.0)}" for x, y in run)
        + '"/>'
        for run in runs
    )
    is_sparse = len(series.points) <= DOTS_MAX and not series.is_reference
    dot = f"dot seen {colour}" if is_sparse else f"dot {colour}"
    name = f"{series.name}, " if series.name else ""
    dots = "".join(
        f'<circle class="{dot}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="4">'
        f"{_tip(f'{name}{figure(x)}: {figure(y)}')}</circle>"
        for x, y in series.points
        if y is not None
    )
    return lines + dots


def _mark(frame: _Frame, index: int, mark: Mark) -> str:
    at, label = mark
    if not frame.x_low <= at <= frame.x_high:
        return ""
    x, is_right = frame.x(at), at > (frame.x_low + frame.x_high) / 2
    # Marks that are close to each other get their words on different lines.
    y = TOP + 10 + 13 * (index % MARK_LINES)
    words = _text(x + (-4 if is_right else 4), y, label, "end" if is_right else "start", "note")
    return f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>{words}'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "axis") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>"

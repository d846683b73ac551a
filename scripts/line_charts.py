"""Small line charts in one SVG file.

Each row has a title and its charts side by side; each chart has its own axes, a grid, a value
at every point, and, dashed, what could be reached at best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svg import FAINT, GRID, INK, Canvas, number, ticks

__all__ = ["Chart", "Points", "Row", "draw", "save"]

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 34, 50
HEAD, ROW_HEAD = 44, 34
BEST = "#9a9a9a"
COLOURS = ("#1f5fa8", "#c05a00", "#2e7d32", "#7b3fa0")

Points = Sequence[tuple[float, float]]
"""(x, y), x ascending."""


@dataclass(frozen=True)
class Chart:
    """`lines`: by name, which is told where there are several, each x above 0.

    `best`: the dashed line, in the same units; `doubling`: an x axis on which each doubling
    takes the same space; `start`: where the y axis begins, below every y; `width`: of the
    chart, in pixels.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Points]
    best: Points = ()
    doubling: bool = False
    start: float = 0.0
    width: float = WIDTH


@dataclass(frozen=True)
class Row:
    title: str
    charts: Sequence[Chart]


class _Frame:
    """Where the values of a chart stand on the canvas, with its axes drawn."""

    def __init__(self, canvas: Canvas, chart: Chart, left: float, top: float) -> None:
        self._chart = chart
        self._x0, self._x1 = left + LEFT, left + chart.width - RIGHT
        self._y0, self._y1 = top + HEIGHT - BOTTOM, top + TOP
        every = [point for points in chart.lines.values() for point in points]
        xs = sorted({x for x, _ in every})
        self._low, high = (self._scaled(xs[0]) - 0.5, 0.5) if chart.doubling else (0.0, 0.0)
        self._high = (self._scaled(xs[-1]) + high) if chart.doubling else xs[-1] * 1.06
        highest = max(y for _, y in (*every, *chart.best))
        self._steps = ticks(chart.start + (highest - chart.start) * 1.08, chart.start)
        self._draw(canvas, xs, left, top)

    def _scaled(self, x: float) -> float:
        return math.log2(x) if self._chart.doubling else x

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (self._scaled(x) - self._low) / (self._high - self._low)
        start, end = self._steps[0], self._steps[-1]
        up = (y - start) / (end - start)
        return self._x0 + (self._x1 - self._x0) * across, self._y0 - (self._y0 - self._y1) * up

    def _draw(self, canvas: Canvas, xs: Sequence[float], left: float, top: float) -> None:
        chart, x0, x1, y0, y1 = self._chart, self._x0, self._x1, self._y0, self._y1
        canvas.text(x0, top + 18, chart.title, size=13, anchor="start", font_weight="bold")
        for value in self._steps:
            y = self.place(xs[0], value)[1]
            canvas.line(x0, y, x1, y, INK if value == chart.start else GRID)
            canvas.text(x0 - 8, y + 4, f"{value:g}", anchor="end", size=11, colour=FAINT)
        for x in xs:
            at = self.place(x, chart.start)[0]
            canvas.line(at, y0, at, y0 + 5, INK)
            canvas.text(at, y0 + 19, f"{x:g}", size=11, colour=FAINT)
        canvas.line(x0, y0, x0, y1, INK)
        canvas.text((x0 + x1) / 2, y0 + 38, chart.x_label, colour=FAINT)
        middle = (y0 + y1) / 2
        turn = f"rotate(-90 {left + 16:.1f} {middle:.1f})"
        canvas.text(left + 16, middle, chart.y_label, colour=FAINT, transform=turn)


def _draw_chart(canvas: Canvas, chart: Chart, left: float, top: float) -> None:
    frame = _Frame(canvas, chart, left, top)
    if chart.best:
        canvas.path([frame.place(x, y) for x, y in chart.best], BEST, stroke_dasharray="5 4")
    name_at = left + LEFT + 12
    for (name, points), colour in zip(chart.lines.items(), COLOURS, strict=False):
        canvas.path([frame.place(x, y) for x, y in points], colour, stroke_width="2")
        rising = points[-1][1] >= points[0][1]
        others = [dict(other) for other in chart.lines.values() if other is not points]
        for x, value in points:
            at, height = frame.place(x, value)
            canvas.dot(at, height, colour)
            told = number(value)
            if (rising and chart.best) or any(value < other.get(x, value) for other in others):
                canvas.text(at + 4, height + 15, told, size=11, anchor="start")  # under a line
            elif rising:
                canvas.text(at - 5, height - 8, told, size=11, anchor="end")
            else:
                canvas.text(at + 5, height - 8, told, size=11, anchor="start")
        if others:
            canvas.dot(name_at, top + TOP + 2, colour)
            canvas.text(name_at + 9, top + TOP + 6, name, size=11, anchor="start")
            name_at += 30 + 6 * len(name)


def draw(title: str, note: str, rows: Sequence[Row]) -> Canvas:
    """The whole picture; `note` explains the dashed lines."""
    width = max(sum(chart.width for chart in row.charts) for row in rows)
    height = HEAD + len(rows) * (ROW_HEAD + HEIGHT) + 20
    canvas = Canvas(title, width, height)
    for index, row in enumerate(rows):
        top = HEAD + index * (ROW_HEAD + HEIGHT)
        canvas.line(16, top, width - 16, top, GRID)
        canvas.text(16, top + 23, row.title, size=13, anchor="start", colour=FAINT)
        left = 0.0
        for chart in row.charts:
            _draw_chart(canvas, chart, left, top + ROW_HEAD)
            left += chart.width
    canvas.text(width - 16, height - 8, note, size=11, anchor="end", colour=FAINT)
    return canvas


def save(path: Path, title: str, note: str, rows: Sequence[Row]) -> None:
    """Write the picture to `path`."""
    draw(title, note, rows).save(path)

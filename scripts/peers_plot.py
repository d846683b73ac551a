"""The plot of the benchmark of the nodes: small line charts in one SVG file.

Plain SVG without scripts, styles or fonts of its own, so that every browser and every
README shows it. Each row has a title and its charts side by side; each chart has its own
axes, a grid, a value at every point, and, dashed, what could be reached at best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 34, 50
HEAD, ROW_HEAD = 44, 34
FONT = "Helvetica, Arial, sans-serif"
INK, FAINT, GRID, LINE, BEST = "#222222", "#666666", "#e2e2e2", "#1f5fa8", "#9a9a9a"


@dataclass(frozen=True)
class Chart:
    """Points (x, y), both above 0, x ascending; `best`: the dashed line, in the same units."""

    title: str
    x_label: str
    y_label: str
    points: Sequence[tuple[float, float]]
    best: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Row:
    title: str
    charts: Sequence[Chart]


def ticks(top: float, about: int = 5) -> list[float]:
    """Round values from 0 to the first that is not below `top` (above 0)."""
    rough = top / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    count = math.ceil(top / step - 1e-9)
    return [round(number * step, 10) for number in range(count + 1)]


def number(value: float) -> str:
    """Three digits that mean something: `0.42`, `8.1`, `33.6`, `412`."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


class _Canvas:
    """Elements at places that are rounded to a tenth of a pixel."""

    def __init__(self, parent: ElementTree.Element) -> None:
        self.parent = parent

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str) -> None:
        ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        places = {name: f"{value:.1f}" for name, value in ends.items()}
        ElementTree.SubElement(self.parent, "line", {**places, "stroke": colour})

    def path(self, points: Sequence[tuple[float, float]], colour: str, **more: str) -> None:
        ElementTree.SubElement(
            self.parent,
            "polyline",
            {
                "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
                "fill": "none",
                "stroke": colour,
                **{name.replace("_", "-"): value for name, value in more.items()},
            },
        )

    def dot(self, x: float, y: float) -> None:
        place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4"}
        ElementTree.SubElement(self.parent, "circle", {**place, "fill": LINE})

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 12,
        anchor: str = "middle",
        colour: str = INK,
        **more: str,
    ) -> None:
        element = ElementTree.SubElement(
            self.parent,
            "text",
            {
                "x": f"{x:.1f}",
                "y": f"{y:.1f}",
                "font-size": str(size),
                "text-anchor": anchor,
                "fill": colour,
                **{name.replace("_", "-"): value for name, value in more.items()},
            },
        )
        element.text = words


def _draw_chart(canvas: _Canvas, chart: Chart, left: float, top: float) -> None:
    x0, x1 = left + LEFT, left + WIDTH - RIGHT
    y0, y1 = top + HEIGHT - BOTTOM, top + TOP
    widest = max(x for x, _ in chart.points) * 1.06
    steps = ticks(max(y for _, y in (*chart.points, *chart.best)) * 1.08)

    def place(x: float, y: float) -> tuple[float, float]:
        return x0 + (x1 - x0) * x / widest, y0 - (y0 - y1) * y / steps[-1]

    canvas.text(x0, top + 18, chart.title, size=13, anchor="start", font_weight="bold")
    for value in steps:
        y = place(0, value)[1]
        canvas.line(x0, y, x1, y, GRID if value else INK)
        canvas.text(x0 - 8, y + 4, f"{value:g}", anchor="end", size=11, colour=FAINT)
    for x, _ in chart.points:
        at = place(x, 0)[0]
        canvas.line(at, y0, at, y0 + 5, INK)
        canvas.text(at, y0 + 19, f"{x:g}", size=11, colour=FAINT)
    canvas.line(x0, y0, x0, y1, INK)
    canvas.text((x0 + x1) / 2, y0 + 38, chart.x_label, colour=FAINT)
    middle = (y0 + y1) / 2
    turn = f"rotate(-90 {left + 16:.1f} {middle:.1f})"
    canvas.text(left + 16, middle, chart.y_label, colour=FAINT, transform=turn)
    if chart.best:
        canvas.path([place(x, y) for x, y in chart.best], BEST, stroke_dasharray="5 4")
    canvas.path([place(x, y) for x, y in chart.points], LINE, stroke_width="2")
    rising = chart.points[-1][1] >= chart.points[0][1]
    for x, y in chart.points:
        at, height = place(x, y)
        canvas.dot(at, height)
        if rising and chart.best:  # which is above it
            canvas.text(at + 4, height + 15, number(y), size=11, anchor="start")
        elif rising:
            canvas.text(at - 5, height - 8, number(y), size=11, anchor="end")
        else:
            canvas.text(at + 5, height - 8, number(y), size=11, anchor="start")


def draw(title: str, note: str, rows: Sequence[Row]) -> ElementTree.ElementTree:
    """The whole picture; `note` explains the dashed lines."""
    width = max(len(row.charts) for row in rows) * WIDTH
    height = HEAD + len(rows) * (ROW_HEAD + HEIGHT) + 20
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "font-family": FONT,
            "role": "img",
        },
    )
    ElementTree.SubElement(svg, "title").text = title
    ElementTree.SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    canvas = _Canvas(svg)
    canvas.text(16, 28, title, size=17, anchor="start", font_weight="bold")
    for index, row in enumerate(rows):
        top = HEAD + index * (ROW_HEAD + HEIGHT)
        canvas.line(16, top, width - 16, top, GRID)
        canvas.text(16, top + 23, row.title, size=13, anchor="start", colour=FAINT)
        for column, chart in enumerate(row.charts):
            _draw_chart(canvas, chart, column * WIDTH, top + ROW_HEAD)
    canvas.text(width - 16, height - 8, note, size=11, anchor="end", colour=FAINT)
    return ElementTree.ElementTree(svg)


def save(path: Path, title: str, note: str, rows: Sequence[Row]) -> None:
    """Write the picture to `path`."""
    tree = draw(title, note, rows)
    ElementTree.indent(tree)
    tree.write(path, encoding="utf-8", xml_declaration=True)

"""Pictures in plain SVG, without scripts, styles or fonts of their own.

Every browser and every README shows them, and the same figures give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["FAINT", "GRID", "INK", "Canvas", "number", "ticks"]

FONT = "Helvetica, Arial, sans-serif"
INK, FAINT, GRID = "#222222", "#666666", "#e2e2e2"


def ticks(top: float, start: float = 0.0, about: int = 5) -> list[float]:
    """Round values from `start` to the first that is not below `top` (above `start`)."""
    rough = (top - start) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    count = math.ceil((top - start) / step - 1e-9)
    return [round(start + number * step, 10) for number in range(count + 1)]


def number(value: float) -> str:
    """Three digits that mean something: `0.042`, `1.08`, `33.6`, `412`, `19,500`."""
    if value < 0.1:
        return f"{value:.3g}"
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


class Canvas:
    """A white picture under a title; places are rounded to a tenth of a pixel."""

    def __init__(self, title: str, width: float, height: float) -> None:
        self._svg = ElementTree.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {width:g} {height:g}",
                "width": f"{width:g}",
                "height": f"{height:g}",
                "font-family": FONT,
                "role": "img",
            },
        )
        self._add("title").text = title
        self._add("rect", width="100%", height="100%", fill="white")
        self.text(16, 28, title, size=17, anchor="start", font_weight="bold")

    def _add(self, name: str, **attributes: float | str) -> ElementTree.Element:
        told = {
            key.replace("_", "-"): value if isinstance(value, str) else f"{value:.1f}"
            for key, value in attributes.items()
        }
        return ElementTree.SubElement(self._svg, name, told)

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, **more: str) -> None:
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, **more)

    def path(self, points: Sequence[tuple[float, float]], colour: str, **more: str) -> None:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add("polyline", points=places, fill="none", stroke=colour, **more)

    def dot(self, x: float, y: float, colour: str, **more: str) -> None:
        self._add("circle", cx=x, cy=y, r="4", fill=colour, **more)

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._add("rect", x=x, y=y, width=width, height=height, fill=colour)

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
        placed = {"font_size": str(size), "text_anchor": anchor, "fill": colour}
        self._add("text", x=x, y=y, **placed, **more).text = words

    @property
    def tree(self) -> ElementTree.ElementTree:
        return ElementTree.ElementTree(self._svg)

    def save(self, path: Path) -> None:
        """Write the picture to `path`."""
        tree = self.tree
        ElementTree.indent(tree)
        tree.write(path, encoding="utf-8", xml_declaration=True)

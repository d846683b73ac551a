"""The table of all rows as a picture: how far each is beyond what it must reach.

A row's bar is how many times better than its "must" it is, whichever direction is better, so
that rows of all units stand on one axis, on which each doubling takes the same space. A line
across it is the "aim", a ring what it was measured against in the same run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from results import Result
from svg import FAINT, GRID, INK, Canvas, number
from targets import TARGETS, Target

__all__ = ["draw"]

WIDTH, LINE, HEAD, FOOT = 900, 24, 74, 46
LABELS, VALUES = 330, 150
"""Pixels for the words at the left, and for the figures at the right."""
COLOURS = {"aim": "#2e7d32", "reached": "#1f5fa8", "missed": "#c05a00"}
LEAST, MOST = 1 / 4, 16
"""What is beyond is drawn as this; its figure stands beside it."""


def better(one: Target, value: float) -> float:
    """How many times better than it must be; 1 when it just reaches that."""
    assert one.must is not None
    return value / one.must if one.more else one.must / value


def reference(one: Target, found: Result) -> float | None:
    """What it was measured against, in the unit of the row; None when that is a bound."""
    if not found.theirs:
        return None
    is_a_ratio = found.ours != found.values
    return 1.0 if is_a_ratio else statistics.median(found.theirs)


def _across(times: float) -> float:
    share = math.log2(min(MOST, max(LEAST, times)) / LEAST) / math.log2(MOST / LEAST)
    return LABELS + share * (WIDTH - LABELS - VALUES)


def draw(results: Mapping[str, Result], machine: str) -> Canvas:
    """The rows that were run and have to reach something."""
    shown = [(one, results[one.key]) for one in TARGETS if one.must and one.key in results]
    bottom = HEAD + len(shown) * LINE
    canvas = Canvas("How far each row is beyond what it must reach", WIDTH, bottom + FOOT)
    canvas.text(16, 48, machine, size=11, anchor="start", colour=FAINT)
    for power in range(round(math.log2(LEAST)), round(math.log2(MOST)) + 1):
        at = _across(2.0**power)
        canvas.line(at, HEAD - 6, at, bottom, GRID if power else INK)
        words = "must" if not power else f"{2**power:g} x" if power > 0 else f"1/{2**-power} x"
        canvas.text(at, HEAD - 10, words, size=11, colour=FAINT)
    for index, (one, found) in enumerate(shown):
        _draw_row(canvas, one, found, HEAD + index * LINE)
    at = 16.0
    for word, colour in COLOURS.items():
        canvas.bar(at, bottom + 16, 11, 11, colour)
        canvas.text(at + 17, bottom + 26, word, size=11, anchor="start")
        at += 40 + 7 * len(word)
    note = "line across: the aim; ring: what it was measured against, in the same run"
    canvas.text(WIDTH - 16, bottom + 26, note, size=11, anchor="end", colour=FAINT)
    return canvas


def _draw_row(canvas: Canvas, one: Target, found: Result, top: float) -> None:
    middle = top + LINE / 2
    canvas.text(16, middle + 4, one.key, size=11, anchor="start", font_weight="bold")
    canvas.text(LABELS - 8, middle + 4, one.work, size=11, anchor="end")
    must, end = _across(1.0), _across(better(one, found.value))
    left = min(must, end)
    canvas.bar(left, top + 5, max(1.0, abs(end - must)), LINE - 10, COLOURS[found.verdict])
    if one.aim is not None:
        aim = _across(better(one, one.aim))
        canvas.line(aim, top + 2, aim, top + LINE - 2, INK, stroke_width="2")
    against = reference(one, found)
    if against is not None:
        canvas.dot(_across(better(one, against)), middle, "white", stroke=INK)
    told = f"{number(found.value)} {one.unit}  (must {one.must:g})"
    canvas.text(WIDTH - VALUES + 12, middle + 4, told, size=11, anchor="start")

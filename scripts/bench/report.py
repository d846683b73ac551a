"""The table of all rows, for a terminal and for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import bars
from results import Result
from svg import number
from targets import TARGETS, Target

__all__ = ["table", "write"]

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURE = "benchmarks-rows.svg"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
HEAD = ("row", "work", "against", "median", "min - max", "ours", "theirs", "must", "aim", "")


def _bound(one: Target, bound: float | None) -> str:
    if bound is None:
        return ""
    return f"{'>=' if one.more else '<='} {bound:g}"


def _median(values: list[float]) -> str:
    return number(sorted(values)[len(values) // 2]) if values else ""


def _cells(one: Target, found: Result | None) -> tuple[str, ...]:
    told = (one.key, one.work, one.reference)
    asked = (_bound(one, one.must), _bound(one, one.aim))
    if found is None:
        return (*told, "", "", "", "", *asked, "not run")
    low, high = found.spread
    beside = f" {found.shown_in}" if found.shown_in else ""
    ours = _median(found.ours) + beside
    theirs = _median(found.theirs) + beside if found.theirs else ""
    value = f"{number(found.value)} {one.unit}"
    spread = f"{number(low)} - {number(high)}"
    return (*told, value, spread, ours, theirs, *asked, found.verdict)


def table(results: Mapping[str, Result]) -> str:
    """As columns; rows that were never run stand there as such."""
    rows = [HEAD, *(_cells(one, results.get(one.key)) for one in TARGETS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _markdown(results: Mapping[str, Result], machine: str) -> str:
    lines = [f"On {machine}:", "", f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for one in TARGETS:
        cells = _cells(one, results.get(one.key))
        lines.append(f"| {' | '.join(cells)} |".replace("<=", "≤").replace(">=", "≥"))
    notes = dict.fromkeys(
        f"Rows {one.key}: {results[one.key].note}."
        for one in TARGETS
        if one.key in results and results[one.key].note
    )
    picture = f"![How far each row is beyond what it must reach]({PICTURE})"
    return "\n".join([*lines, "", picture, "", *(f"- {note}" for note in notes)])


def write(results: Mapping[str, Result], machine: str) -> None:
    """Table and picture into docs/benchmarks.md. Raises `ValueError` without a place for them."""
    page = DOCS / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    made = f"{before}{BEGIN}\n{_markdown(results, machine)}\n{END}{after}"
    page.write_text(made, encoding="utf-8")
    bars.draw(results, machine).save(DOCS / PICTURE)

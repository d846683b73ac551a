"""The page that tells what the matrix found: docs/interop.md.

Invariant: a cell is `yes`, or it says why not in a note below the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HEAD = """\
# With other clients

Made by `make interop`, which runs every cell with real processes: {size} MiB in several files,
every byte compared (SHA-256 of each file). Both ends meet through the tracker alone{network}.
A cell shows the seconds from the downloader's start until it said that it was complete; that is
about who waits for whom, not a benchmark.

"""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: its seconds, or why it was not run, or how it failed."""

    seconds: float | None = None
    not_run: str = ""
    failed: str = ""


@dataclass
class Row:
    """One foreign program; the outcomes by the names of the columns."""

    name: str
    version: str | None
    setting: str = ""
    """What was set in it that users have otherwise, and why."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)


class Notes:
    """Reasons, each told once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def cell(self, outcome: Outcome | None) -> str:
        if outcome is None:
            return ""
        if outcome.seconds is not None:
            return f"yes, {outcome.seconds:.1f} s"
        word, text = ("failed", outcome.failed) if outcome.failed else ("not run", outcome.not_run)
        text = " ".join(text.split()).replace("|", "\\|")
        if text not in self.texts:
            self.texts.append(text)
        return f"{word} ({self.texts.index(text) + 1})"


def table(rows: Sequence[Row], columns: Mapping[str, str], notes: Notes) -> str:
    """Markdown; `columns` has the headings by the names of the outcomes."""
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [notes.cell(row.outcomes.get(name)) for name in columns]
        name = row.name if row.version is None else f"{row.name} {row.version}"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page(
    size: int,
    network: str,
    sections: Sequence[tuple[str, Mapping[str, str], Sequence[Row]]],
) -> str:
    """The whole page; a section is its title, its columns and its rows."""
    notes = Notes()
    text = HEAD.format(size=size, network=network)
    for title, columns, rows in sections:
        text += f"## {title}\n\n{table(rows, columns, notes)}\n"
    told = {row.name: row.setting for _, _, rows in sections for row in rows if row.setting}
    for name, setting in told.items():
        text += f"In {name} {setting}.\n\n"
    for number, note in enumerate(notes.texts, 1):
        text += f"({number}) {note}\n\n"
    return text.rstrip() + "\n"

"""How the lines of a catalogue look, as tables and as JSON objects.

Invariant: pure functions of what the index said; names pass through `printable` here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from p2pfs.cli.text import printable, quoted, shorten, width
from p2pfs.cli.units import format_size
from p2pfs.cli.views import table

if TYPE_CHECKING:
    from p2pfs.net.index_client import Listed

__all__ = ["SHORT_HASH", "choices_table", "listed_object", "listed_table", "moment"]

SHORT_HASH = 8
"""Digits of an info hash that people see and type."""


def listed_table(
    listed: Sequence[Listed], *, colour: bool = False, columns: int | None = None
) -> str:
    """Names with what is known of them; to fit `columns`, names and times are cut."""
    narrow = columns is not None and columns < 100
    header = ["name", "size", "seeders", "leechers", "completed", "published", "hash", ""]
    rows = [
        [
            printable(one.name),
            format_size(one.size),
            str(one.seeders),
            str(one.leechers),
            str(one.downloaded),
            moment(one.published)[: 10 if narrow else None],
            printable(one.info_hash[:SHORT_HASH]),
            "unconfirmed" if one.unconfirmed else "",
        ]
        for one in listed
    ]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    if columns is not None:
        cells = list(zip(header, *rows, strict=True))
        others = sum(max(map(width, column)) + 2 for column in cells[1:])
        room = max(12, columns - others - 1)
        rows = [[shorten(row[0], room), *row[1:]] for row in rows]
    return table(header, rows, colour=colour, left=(0, 7))


def choices_table(candidates: Sequence[Listed], *, colour: bool = False) -> str:
    """The contents that one name may mean, with what to ask for to get each."""
    header = ("ask for", "size", "published", "seeders")
    rows = [
        (
            quoted(printable(f"{one.name}@{one.info_hash[:SHORT_HASH]}")),
            format_size(one.size),
            moment(one.published),
            str(one.seeders),
        )
        for one in candidates
    ]
    return table(header, rows, colour=colour, left=(0,))


def moment(seconds: int) -> str:
    """`2024-05-03 14:05`, local time."""
    from datetime import datetime

    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return "-"


def listed_object(listed: Listed) -> dict[str, Any]:
    """A line of the catalogue for `--json`: bytes, seconds since 1970."""
    return {
        "name": listed.name,
        "size": listed.size,
        "info_hash": listed.info_hash,
        "published": listed.published,
        "files": listed.files,
        "seeders": listed.seeders,
        "leechers": listed.leechers,
        "downloaded": listed.downloaded,
        "live": listed.live,
        "unconfirmed": listed.unconfirmed,
    }

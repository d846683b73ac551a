"""How far the hashing of content is, while it goes on.

Invariant: with `--json` only objects go to standard output; a bar goes to standard error,
and only where that is a terminal.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from p2pfs.cli.text import printable, write_out

__all__ = ["emit", "hash_bar"]

_DRAWN_EVERY = 0.1
"""Seconds."""


def emit(event: str, **fields: Any) -> None:
    """One JSON object on a line of its own."""
    write_out(json.dumps({"event": event, **fields}) + "\n")


@contextmanager
def hash_bar(
    title: str, *, as_json: bool = False, bar: bool = True, still: bool = False
) -> Iterator[Callable[[int, int], None] | None]:
    """Shows how far hashing is: JSON events, or (with `bar`) a bar on standard error.

    The bar is for a terminal on which nothing else is drawn. `still`: it is drawn when progress
    is told and not by a thread, for content is hashed faster by a process that has but one.
    """
    if as_json:
        tenths = -1

        def tell(done: int, total: int) -> None:
            nonlocal tenths
            if total and done * 10 // total > tenths:
                tenths = done * 10 // total
                emit("progress", state="checking", bytes_done=done, bytes_total=total)

        yield tell
        return
    if not bar or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    where = Console(stderr=True)
    with Progress(*columns, console=where, transient=True, auto_refresh=not still) as drawn:
        task = drawn.add_task(escape(printable(title)), total=None)
        drawn_at = 0.0

        def draw(done: int, total: int) -> None:
            nonlocal drawn_at
            now = time.monotonic()
            drawn.update(task, completed=done, total=total)
            if still and now - drawn_at >= _DRAWN_EVERY:
                drawn_at = now
                drawn.refresh()

        yield draw

"""Lines from standard input, whatever it is: a pipe, a file, nothing, or a terminal.

Invariant: the end of input ends nothing but the reading; a program in the background of a
terminal never reads from it, because that would stop the program.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable

__all__ = ["is_interactive", "read_lines"]

_MAX_LINE = 64 * 1024
_AHEAD = 100
"""Lines that are read before they are taken: a pipe that never ends fills no memory."""
_TURN = 0.5
"""Seconds after which a program in the background looks whether it is in the foreground."""


def _in_foreground(fd: int) -> bool:
    """Whether this process may read from and draw on the terminal `fd`."""
    if not hasattr(os, "tcgetpgrp"):
        return True
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


def is_interactive() -> bool:
    """Whether standard input and output are a terminal that can show a live console."""
    try:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            return False
    except (AttributeError, ValueError):
        return False
    return os.environ.get("TERM") not in ("dumb", "unknown") and _in_foreground(sys.stdin.fileno())


async def read_lines(ended: Callable[[], None] = lambda: None) -> AsyncIterator[str]:
    """The lines of standard input, without their ends; after the last one, wait for ever.

    `ended` is called once there are no more. Lines over 64 KiB are cut. Reads on a daemon
    thread, because a file or a console on Windows cannot be waited for in an event loop.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    try:
        fd = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        fd = -1
    if fd >= 0:
        thread = threading.Thread(target=_read, args=(fd, loop, lines, room), daemon=True)
        thread.name = "standard-input"
        thread.start()
    else:
        lines.put_nowait(None)
    while True:
        line = await lines.get()
        room.release()
        if line is None:
            ended()
        else:
            yield line


def _wait_for_turn(fd: int) -> None:
    """On a terminal: until there is something to read, and it is ours to read."""
    if not hasattr(os, "tcgetpgrp") or not os.isatty(fd):
        return
    while not (_in_foreground(fd) and select.select([fd], [], [], _TURN)[0]):
        if not _in_foreground(fd):
            time.sleep(_TURN)


def _read(
    fd: int,
    loop: asyncio.AbstractEventLoop,
    lines: asyncio.Queue[str | None],
    room: threading.Semaphore,
) -> None:
    pending = b""
    while True:
        try:
            _wait_for_turn(fd)
            data = os.read(fd, 4096)
        except (OSError, ValueError):
            data = b""
        *whole, pending = (pending + data).split(b"\n")
        if not data and pending:
            whole.append(pending)
        pending = pending[:_MAX_LINE]
        try:
            for line in whole:
                text = line[:_MAX_LINE].decode("utf-8", "replace").strip()
                room.acquire()
                loop.call_soon_threadsafe(lines.put_nowait, text)
            if not data:
                loop.call_soon_threadsafe(lines.put_nowait, None)
                return
        except RuntimeError:
            return

"""Memory that a virtual machine keeps, so that runs do not depend on what ran before them.

Such a machine may give memory that lies free back to its host, in blocks of 2 MiB or more, a few
seconds after it was freed. A page that has to be fetched from there again takes several times as
long as one at hand, and a transfer needs one for each 4 KiB that it writes: the same transfer was
seen to take 1.2 s and 3.7 s. So memory is touched once and given back but for a page in each 2 MiB:
what lies between is free for whoever asks, and in blocks too small to be taken away (and for huge
pages, which neither side asks for).

Invariant: what is held on to (a 512th of it) is in a process of its own, which ends with `kept`.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["enough", "kept"]

ENOUGH = 16 * 1024**3
"""Bytes: more than the largest transfer touches."""

BLOCK = 2 * 1024**2
"""Bytes; the files' memory is taken in blocks of up to half of that."""


def enough(told: str | None = None) -> int:
    """Bytes to keep: at most two thirds of what is available, none where that is not told.

    `told`: what /proc/meminfo says, if not what it says here.
    """
    if told is None:
        file = Path("/proc/meminfo")
        told = file.read_text() if file.exists() and hasattr(mmap, "MADV_DONTNEED") else ""
    found = re.search(r"^MemAvailable: +(\d+) kB$", told, re.MULTILINE)
    return min(ENOUGH, int(found[1]) * 1024 * 2 // 3) if found else 0


@contextlib.contextmanager
def kept(size: int) -> Iterator[None]:
    """`size` bytes are kept while this is open; 0: none."""
    if not size:
        yield
        return
    holder = subprocess.Popen(
        [sys.executable, __file__, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        if not holder.stdout.readline():
            print("memory could not be kept: figures may depend on what ran before", flush=True)
        yield
    finally:
        holder.communicate()


def _hold(size: int) -> None:
    """Touch, give back most of it, say so, and wait for the end of standard input."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    for place in range(0, size, mmap.PAGESIZE):
        memory[place] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for place in range(-address % BLOCK, size - BLOCK, BLOCK):
        memory.madvise(mmap.MADV_DONTNEED, place + mmap.PAGESIZE, BLOCK - mmap.PAGESIZE)
    print("kept", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _hold(int(sys.argv[1]))

"""Memory to read and receive into.

Invariant: large buffers begin with a page. The kernel copies into memory up to a fifth slower that
begins anywhere else, as that of a `bytearray` does.
"""

from __future__ import annotations

import mmap
from typing import Final

__all__ = ["page_aligned"]

WORTH_IT: Final = 64 * 1024
"""Bytes from which a mapping of its own is worth its two system calls."""


def page_aligned(size: int) -> memoryview:
    """A writable buffer of `size` bytes, all zero."""
    if size < WORTH_IT:
        return memoryview(bytearray(size))
    if hasattr(mmap, "MAP_ANONYMOUS"):
        return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return memoryview(mmap.mmap(-1, size))

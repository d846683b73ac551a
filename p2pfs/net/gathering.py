"""Short file ranges, and the bytes between them, read into one buffer that goes out in one call.

Invariant: what is gathered is a copy of the head of the queue, whole or cut where the buffer
ends; the queue stays as it is, and nothing in it is held in memory once the call is over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from typing import Final

from p2pfs.errors import StorageError
from p2pfs.geometry import BLOCK_LENGTH
from p2pfs.net.stream_queue import FileRange, FileSource

__all__ = ["CAN_READ", "FILE_ERRORS", "GATHERED", "SHORT", "gather", "read_range", "short_read"]

GATHERED: Final = 256 * 1024
"""Bytes of the buffer: few calls, and the processor's cache still holds it."""

SHORT: Final = BLOCK_LENGTH
"""Bytes of a file range up to which a copy costs both ends less than a `sendfile` of its own."""

FILE_ERRORS: Final = frozenset((errno.EIO, errno.ESTALE))
"""What reading fails with when it is the file that is at fault."""

_MOST_VIEWS: Final = 512
"""Ranges read in one call; systems take 1024 at most."""

_HAS_PREADV: Final = hasattr(os, "preadv")
CAN_READ: Final = hasattr(os, "pread")
"""Whether a range of a file can be read at all without moving its position."""


def gather(queue: Iterable[bytes | FileRange], buffer: memoryview) -> int:
    """Fill `buffer` from the head of `queue`, up to the next range that is not `SHORT`: how far.

    Ranges that follow each other in their file take few calls. Raises `StorageError` when a
    file cannot be read, or ends before a range does; its source is told if the file is at fault.
    """
    end, room = 0, len(buffer)
    views: list[memoryview] = []
    source: FileSource | None = None
    start = following = 0
    for item in queue:
        if end == room or (end and isinstance(item, FileRange) and item.length > SHORT):
            break
        if isinstance(item, bytes):
            after = min(end + len(item), room)
            buffer[end:after] = item[: after - end]
        else:
            after = min(end + item.length, room)
            follows = item.source is source and item.offset == following
            if not follows or len(views) == _MOST_VIEWS:
                if source is not None:
                    _fill(source, views, start, following)
                views = []
                source, start = item.source, item.offset
            views.append(buffer[end:after])
            following = item.offset + after - end
        end = after
    if source is not None:
        _fill(source, views, start, following)
    return end


def read_range(source: FileSource, offset: int, length: int) -> bytearray:
    """A range of a file; errors as for `gather`."""
    data = bytearray(length)
    _fill(source, [memoryview(data)], offset, offset + length)
    return data


def _fill(source: FileSource, views: Sequence[memoryview], start: int, end: int) -> None:
    try:
        if _read(source.fileno(), views, start) < end - start:
            raise short_read()
    except OSError as error:
        if error.errno in FILE_ERRORS:
            source.failed()
        raise StorageError(f"a file cannot be read: {error.strerror}") from error
    except StorageError:
        source.failed()
        raise


def short_read() -> StorageError:
    """A file has less than was to be sent of it."""
    return StorageError("a file ended before the block that was promised from it")


def _read(file: int, views: Sequence[memoryview], offset: int) -> int:
    if _HAS_PREADV:
        return os.preadv(file, views, offset)
    done = 0
    for view in views:
        data = os.pread(file, len(view), offset + done)
        view[: len(data)] = data
        done += len(data)
        if len(data) < len(view):
            break
    return done

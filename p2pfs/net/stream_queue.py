"""What a stream has to send, in order: bytes and file ranges; and whom it tells what it does.

Invariant: `queued` is the number of bytes in the queue, and nothing enters it once the
stream is closed.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

__all__ = ["LOW_WATER", "FileRange", "FileSource", "StreamHandler", "StreamQueue"]

LOW_WATER: Final = 64 * 1024
"""Bytes queued below which a stream tells that there is room for more."""


class FileSource(Protocol):
    """A file whose ranges can be sent."""

    def fileno(self) -> int:
        """A descriptor open for reading now; raises `StorageError` when there is none."""
        ...

    async def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, read on a worker thread; raises `StorageError`."""
        ...

    def failed(self) -> None:
        """Told when a range of it could not be read as promised."""
        ...


class StreamHandler(Protocol):
    """What a stream tells its owner. Calls never nest inside the owner's own calls."""

    def receive_allowance(self) -> int:
        """How many bytes may be received now; 0 pauses until `resume`."""
        ...

    def data_received(self, data: memoryview) -> None:
        """`data` is valid until this returns."""
        ...

    def drained(self) -> None:
        """The queue fell below the low-water mark."""
        ...

    def closed(self, error: Exception | None) -> None:
        """Called once. None: the other end closed in order."""
        ...


class FileRange:
    """What is left to send of a file range."""

    __slots__ = ("length", "offset", "source")

    def __init__(self, source: FileSource, offset: int, length: int) -> None:
        self.source = source
        self.offset = offset
        self.length = length


class StreamQueue:
    """The part that every kind of stream has."""

    def __init__(self) -> None:
        self._queue: deque[bytes | FileRange] = deque()
        self._closed = False
        self.queued = 0
        """Bytes written and not yet taken by the system."""

    def write(self, data: bytes) -> None:
        """Queue `data`; it goes out with the next `flush` at the latest."""
        if data and not self._closed:
            self._queue.append(data)
            self.queued += len(data)

    def send_file(self, source: FileSource, offset: int, length: int) -> None:
        """Queue a range of a file; a file that ends before it does closes the stream."""
        if length and not self._closed:
            self._queue.append(FileRange(source, offset, length))
            self.queued += length

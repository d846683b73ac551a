"""A stream on which all that goes out is enciphered, for peers that insist on it.

Invariant: bytes are enciphered once, in the order in which they go out, and no more than `AHEAD`
(and a slice) of them before the system has room: file ranges wait as ranges, so that a peer that
does not read costs little more memory than one in the clear.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from p2pfs.errors import StorageError
from p2pfs.formats.obfuscation import Cipher
from p2pfs.net.gathering import read_range
from p2pfs.net.stream import Stream
from p2pfs.net.stream_queue import LOW_WATER, FileRange, FileSource

__all__ = ["EncipheredStream"]

AHEAD: Final = 2 * LOW_WATER
"""Enciphered bytes that wait for the system; above the low-water mark, so that it is told when
they have gone out."""

SLICE: Final = 32 * 1024


class EncipheredStream:
    """`inner`, with `cipher` for all that is written from now on."""

    def __init__(self, inner: Stream, cipher: Cipher) -> None:
        self._inner = inner
        self._cipher = cipher
        self._queue: deque[bytes | FileRange] = deque()
        self._waiting = 0  # bytes in the queue, which is in the clear
        self._closed = False

    @property
    def queued(self) -> int:
        """Bytes written and not yet taken by the system."""
        return self._waiting + self._inner.queued

    def write(self, data: bytes) -> None:
        """Queue `data`; it goes out with the next `flush` at the latest."""
        if data and not self._closed:
            self._queue.append(data)
            self._waiting += len(data)

    def send_file(self, source: FileSource, offset: int, length: int) -> None:
        """Queue a range of a file; a file that ends before it does closes the stream."""
        if length and not self._closed:
            self._queue.append(FileRange(source, offset, length))
            self._waiting += length

    def flush(self) -> None:
        """Send as much as the system takes; to be called again whenever it has taken some."""
        inner = self._inner
        try:
            while self._queue and inner.queued < AHEAD:
                while self._queue and inner.queued < AHEAD:
                    inner.write(self._cipher.apply(self._next_slice()))
                inner.flush()
        except StorageError as error:
            self.close(error)
            return
        inner.flush()

    def _next_slice(self) -> bytes | bytearray:
        """Take the head of the queue, at most `SLICE` bytes of it if that is a file range."""
        item = self._queue[0]
        if isinstance(item, bytes):
            self._queue.popleft()
            self._waiting -= len(item)
            return item
        data = read_range(item.source, item.offset, min(SLICE, item.length))
        item.offset += len(data)
        item.length -= len(data)
        if not item.length:
            self._queue.popleft()
        self._waiting -= len(data)
        return data

    def pause(self) -> None:
        self._inner.pause()

    def resume(self) -> None:
        self._inner.resume()

    def close(self, error: Exception | None = None) -> None:
        """Close at once; what is queued is dropped."""
        self._closed = True
        self._queue.clear()
        self._waiting = 0
        self._inner.close(error)

"""A stream on which all that goes out is enciphered, for peers that insist on it.

Invariant: what is queued was enciphered in the order in which it goes out. File ranges are read
and enciphered when they are queued: they are in memory by then (`net/readahead.py`), and no more
of them than one turn sends.
"""

from __future__ import annotations

from p2pfs.formats.obfuscation import Rc4
from p2pfs.net.gathering import read_range
from p2pfs.net.stream import Stream
from p2pfs.net.stream_queue import FileSource

__all__ = ["EncipheredStream"]


class EncipheredStream:
    """`inner`, with `cipher` for all that is written from now on."""

    def __init__(self, inner: Stream, cipher: Rc4) -> None:
        self._inner = inner
        self._cipher = cipher

    @property
    def queued(self) -> int:
        return self._inner.queued

    def write(self, data: bytes) -> None:
        self._inner.write(self._cipher.apply(data))

    def send_file(self, source: FileSource, offset: int, length: int) -> None:
        """Raises `StorageError` when the range cannot be read whole."""
        self._inner.write(self._cipher.apply(read_range(source, offset, length)))

    def flush(self) -> None:
        self._inner.flush()

    def pause(self) -> None:
        self._inner.pause()

    def resume(self) -> None:
        self._inner.resume()

    def close(self, error: Exception | None = None) -> None:
        self._inner.close(error)

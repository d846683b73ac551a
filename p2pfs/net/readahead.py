"""Brings cold content into memory before it is sent, so that `sendfile` does not wait.

Invariant: a piece is sent only when a glance found it in memory or a worker has just read
it; the loop itself never waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from p2pfs.errors import StorageError
from p2pfs.net.disk import Disk
from p2pfs.storage.pieces import PieceStore

__all__ = ["ReadAhead"]

REMEMBERED: Final = 64 * 1024 * 1024
"""Bytes of content taken to stay in memory after they were seen there."""

AT_ONCE: Final = 8
"""Pieces being read at the same time."""


class ReadAhead:
    """For one torrent; `arrived` is called when a piece has been read."""

    def __init__(self, store: PieceStore, disk: Disk, arrived: Callable[[], None]) -> None:
        self._store = store
        self._disk = disk
        self._arrived = arrived
        self._geometry = store.metainfo.geometry
        self._limit = max(4, REMEMBERED // self._geometry.piece_length)
        self._ready: dict[int, None] = {}
        self._coming: set[int] = set()
        self._jobs: set[asyncio.Future[None]] = set()

    def ready(self, piece: int) -> bool:
        """Whether `piece` can be sent now; if not, it is being read and `arrived` follows.

        True also for one that cannot be read: the error shows when it is sent.
        """
        if piece in self._ready:
            return True
        if piece in self._coming:
            return False
        size = self._geometry.piece_size(piece)
        if self._is_warm(piece, size):
            self._remember(piece)
            return True
        if len(self._coming) < AT_ONCE:
            self._coming.add(piece)
            job = self._disk.run(0, self._store.warm, piece, 0, size)
            self._jobs.add(job)
            job.add_done_callback(lambda done: self._read(piece, done))
        return False

    def _is_warm(self, piece: int, size: int) -> bool:
        try:
            return self._store.is_warm(piece, 0, size)
        except StorageError:
            return True

    async def close(self) -> None:
        """Wait for what is being read."""
        while self._jobs:
            await asyncio.gather(*self._jobs, return_exceptions=True)

    def _read(self, piece: int, job: asyncio.Future[None]) -> None:
        self._jobs.discard(job)
        self._coming.discard(piece)
        error = job.exception()
        if error is None or isinstance(error, StorageError):
            self._remember(piece)
            self._arrived()

    def _remember(self, piece: int) -> None:
        self._ready[piece] = None
        if len(self._ready) > self._limit:
            del self._ready[next(iter(self._ready))]

"""Opens content for torrents on a worker: the check of what is there may take minutes.

Invariant: no store is left open that nobody took; a check whose caller was cancelled, or
whose client is closing, ends soon after.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from p2pfs.errors import NetworkError, StorageError
from p2pfs.net.disk import Disk
from p2pfs.storage.pieces import PieceStore

__all__ = ["Checked", "StoreOpening"]

Checked = Callable[[int, int], None]
"""Told how many bytes were checked, of how many."""


class StoreOpening:
    """For one client, on its `disk`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._checks: dict[asyncio.Future[PieceStore], threading.Event] = {}
        self._closed = False

    async def open(
        self, open_store: Callable[[Checked], PieceStore], progress: Checked | None
    ) -> PieceStore:
        """What `open_store` opens, given whom to tell how far it is.

        Raises what that raises, and `NetworkError` when the client is closed.
        """
        cancelled = threading.Event()

        def told(done: int, total: int) -> None:
            if cancelled.is_set():
                raise StorageError("the check was broken off")
            if progress is not None:
                progress(done, total)

        if self._closed:
            raise NetworkError("the client is closed")
        job = self._disk.check(open_store, told)
        self._checks[job] = cancelled
        job.add_done_callback(self._checks.pop)
        try:
            store = await asyncio.shield(job)
        except asyncio.CancelledError:
            cancelled.set()
            job.add_done_callback(_let_go)
            raise
        if self._closed:
            store.close()
            raise NetworkError("the client is closed")
        return store

    async def close(self) -> None:
        """Break off what is under way, and open nothing more."""
        self._closed = True
        for cancelled in self._checks.values():
            cancelled.set()
        await asyncio.gather(*self._checks, return_exceptions=True)


def _let_go(job: asyncio.Future[PieceStore]) -> None:
    """Close a store that nobody waits for any more."""
    if not job.cancelled() and job.exception() is None:
        job.result().close()

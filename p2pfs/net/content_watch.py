"""Notices content that changed under us, so that what differs is offered to nobody.

Invariant: a piece is offered only while its files look as they did when it was found right,
give or take `CHECK_EVERY` seconds and what is on its way; our own writing is not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from p2pfs.errors import StorageError
from p2pfs.storage.pieces import PieceStore

__all__ = ["ContentWatch"]

log = logging.getLogger(__name__)

CHECK_EVERY: Final = 5.0
"""Seconds between two looks at the files that were served meanwhile."""


class ContentWatch:
    """For one torrent: `on_disk` runs a call off the loop, `lost` is told which pieces differ."""

    def __init__(
        self,
        store: PieceStore,
        on_disk: Callable[[Callable[[Iterable[int]], list[int]], set[int]], Awaitable[list[int]]],
        lost: Callable[[list[int]], None],
    ) -> None:
        self._store = store
        self._on_disk = on_disk
        self._lost = lost
        self._served: set[int] = set()
        self._doubt = asyncio.Event()

    def served(self, number: int) -> None:
        """Something of content file `number` was sent."""
        self._served.add(number)

    def reading_failed(self) -> None:
        """A file could not be read as promised: looked into at once."""
        self._doubt.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY):
                    await self._doubt.wait()
            self._doubt.clear()
            numbers, self._served = self._served, set()
            if not numbers or not self._store.finished:
                continue
            try:
                lost = await self._on_disk(self._store.recheck_changed, numbers)
            except StorageError as error:
                log.error("%s", error)
                self._served |= numbers
                continue
            if lost:
                self._lost(lost)

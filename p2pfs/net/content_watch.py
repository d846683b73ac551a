"""Notices content that changed under us, so that what differs is offered to nobody.

What is right again later, because a file was put back, is offered again.

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
    """For one torrent: `on_disk` runs a call off the loop.

    `lost` is told which pieces differ, `found` which of those are right again.
    """

    def __init__(
        self,
        store: PieceStore,
        on_disk: Callable[..., Awaitable[list[int]]],
        lost: Callable[[list[int]], None],
        found: Callable[[list[int]], None],
    ) -> None:
        self._store = store
        self._on_disk = on_disk
        self._lost = lost
        self._found = found
        self.missing: set[int] = set()
        """Pieces that were lost and have not been found again."""
        self._served: set[int] = set()
        self._suspects: set[int] = set()
        self._doubt = asyncio.Event()

    def served(self, number: int) -> None:
        """Something of content file `number` was sent."""
        self._served.add(number)

    def reading_failed(self, number: int) -> None:
        """Content file `number` could not be read as promised: looked into at once."""
        self._suspects.add(number)
        self._doubt.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY):
                    await self._doubt.wait()
            self._doubt.clear()
            numbers, self._served = self._served, set()
            suspects, self._suspects = self._suspects, set()
            numbers |= self._files_of(self.missing) | suspects
            if not numbers or not self._store.finished:
                continue
            try:
                await self._look(numbers, suspects)
            except StorageError as error:
                log.error("%s", error)
                self._served |= numbers

    async def _look(self, numbers: set[int], suspects: set[int]) -> None:
        lost = await self._on_disk(self._store.recheck_changed, numbers, suspects)
        if lost:
            self.missing.update(lost)
            self._lost(lost)
        if self.missing:
            found = await self._on_disk(self._store.find_again, set(self.missing))
            if found:
                self.missing.difference_update(found)
                self._found(found)

    def _files_of(self, pieces: Iterable[int]) -> set[int]:
        layout = self._store.layout
        return {
            span.file_index
            for piece in pieces
            for span in layout.spans(piece, 0, layout.geometry.piece_size(piece))
        }

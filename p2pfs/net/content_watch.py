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

    `lost` is told which pieces differ, `found` which of those are right again, and `idle`
    that there is nothing to look at any more. Until something is served it costs nothing.
    """

    def __init__(
        self,
        store: PieceStore,
        on_disk: Callable[..., Awaitable[list[int]]],
        lost: Callable[[list[int]], None],
        found: Callable[[list[int]], None],
        idle: Callable[[], None],
    ) -> None:
        self._store = store
        self._on_disk = on_disk
        self._lost = lost
        self._found = found
        self._idle = idle
        self.missing: set[int] = set()
        """Pieces that were lost and have not been found again."""
        self._served: set[int] = set()
        self._suspects: set[int] = set()
        self._doubt: asyncio.Event | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether there is something to look at."""
        return self._looking is not None

    def served(self, number: int) -> None:
        """Something of content file `number` was sent."""
        self._served.add(number)
        if self._looking is None:
            self._begin()

    def reading_failed(self, number: int) -> None:
        """Content file `number` could not be read as promised: looked into at once."""
        self._suspects.add(number)
        if self._looking is None:
            self._begin()
        if self._doubt is not None:
            self._doubt.set()

    def _begin(self) -> None:
        if not self._closed:
            self._doubt = asyncio.Event()
            task = self._look_on(self._doubt)
            self._looking = asyncio.get_running_loop().create_task(task, name="content watch")

    async def close(self) -> None:
        """Look at nothing any more."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_on(self, doubt: asyncio.Event) -> None:
        """As long as there is something to look at."""
        try:
            while self._served or self._suspects or self.missing:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_EVERY):
                        await doubt.wait()
                doubt.clear()
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
        finally:
            self._looking = None
        self._idle()

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

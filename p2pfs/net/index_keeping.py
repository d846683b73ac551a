"""What an index does by itself: silent peers and nodes go, and what is known is kept.

Invariant: the event loop is never held up for more than a few milliseconds, nor the
database written more often than every `_SAVE_EVERY` seconds; what could not be written is
written the next time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from p2pfs.errors import CatalogueError
from p2pfs.net.workers import Workers
from p2pfs.tracker.last_known import Saving
from p2pfs.tracker.peer_store import MemoryPeerStore
from p2pfs.tracker.presence import Presence

__all__ = ["IndexKeeper", "in_steps"]

log = logging.getLogger(__name__)

SWEEP_EVERY = 1.0
SWEEP_BUDGET = 20_000
"""Rows looked at in one sweep: about a millisecond."""
_SAVE_EVERY = 2.0
_AT_ONCE = 1000
"""Torrents looked at in one step of the event loop."""


async def in_steps(step: Callable[[], bool]) -> None:
    """Call `step` until it returns False; the event loop goes on in between."""
    for _ in iter(step, False):
        await asyncio.sleep(0)


class IndexKeeper:
    """Keeps `store` and `presence` up to date between `start` and `close`."""

    def __init__(
        self,
        store: MemoryPeerStore,
        presence: Presence,
        workers: Workers,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._presence = presence
        self._workers = workers
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self._failing = False

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._tasks = [asyncio.create_task(self._sweep()), asyncio.create_task(self._save())]

    async def close(self) -> None:
        """Stop, after a last save."""
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        await self._save_now()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            self._store.expire(self._clock(), SWEEP_BUDGET)
            self._presence.expire(self._clock())
            await in_steps(partial(self._presence.work, _AT_ONCE))

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            await self._save_now()

    async def _save_now(self) -> None:
        saving = Saving()
        await in_steps(partial(self._presence.collect, saving, _AT_ONCE))
        if not saving:
            return
        try:
            await self._workers.run(self._presence.save, saving)
            self._failing = False
        except CatalogueError as error:
            self._presence.not_saved(saving)
            if not self._failing:
                log.warning("counts and nodes are not kept: %s", error)
            self._failing = True
        except asyncio.CancelledError:
            self._presence.not_saved(saving)
            raise

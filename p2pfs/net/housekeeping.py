"""Visits the torrents that have something to do, and leaves the others in peace.

Invariant: a torrent costs nothing between two visits, and one that rests nothing at all;
what one of them raises is written to the log and stops no other.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final, Protocol

__all__ = ["RESTS", "Housekeeper", "Tended"]

log = logging.getLogger(__name__)

TICK: Final = 0.25
"""Seconds between two visits of what is busy."""

RESTS: Final = math.inf
"""Told by what has nothing to do before it is woken."""


class Tended(Protocol):
    """What is visited."""

    def tend(self) -> float:
        """Do what is due: in how many seconds there will be more to do, `RESTS` for never."""
        ...


class Housekeeper:
    """For one client; nothing runs while nobody is awake."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._awake: dict[Tended, None] = {}
        self._alarms: dict[Tended, asyncio.TimerHandle] = {}
        self._rounds: asyncio.Task[None] | None = None

    def wake(self, one: Tended) -> None:
        """Visit it within a tick, and then as often as it says."""
        if one in self._awake:
            return
        self.forget(one)
        self._awake[one] = None
        if self._rounds is None:
            self._rounds = self._loop.create_task(self._go_round(), name="housekeeping")

    def forget(self, one: Tended) -> None:
        """Do not visit it any more."""
        self._awake.pop(one, None)
        alarm = self._alarms.pop(one, None)
        if alarm is not None:
            alarm.cancel()

    async def _go_round(self) -> None:
        while self._awake:
            await asyncio.sleep(TICK)
            for one in list(self._awake):
                if one in self._awake:
                    self._visit(one)
        self._rounds = None

    def _visit(self, one: Tended) -> None:
        try:
            pause = one.tend()
        except Exception:
            log.exception("a fault of ours with %r", one)
            return
        if pause > TICK and one in self._awake:
            del self._awake[one]
            if pause != RESTS:
                self._alarms[one] = self._loop.call_later(pause, self.wake, one)

    async def close(self) -> None:
        """Visit nobody any more."""
        for one in [*self._awake, *self._alarms]:
            self.forget(one)
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.gather(self._rounds, return_exceptions=True)

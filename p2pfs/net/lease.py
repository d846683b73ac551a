"""Holds a node's place at the index: which torrents it seeds, renewed while it lives.

Invariant: one request is under way at a time, and the index is asked anew until it has
the list as it is now; an index that is down or forgot us is told of and tried again,
never an error after the first registration.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from p2pfs.errors import P2pfsError
from p2pfs.net.index_client import IndexClient, NodeTaken, NotAllowed

__all__ = ["Lease"]

log = logging.getLogger(__name__)

RETRY_EVERY: Final = 3.0
"""Seconds between two attempts while the index does not answer."""

GATHER: Final = 0.2
"""Seconds in which changes are gathered before the index is told of them."""

GOODBYE: Final = 3.0
"""Seconds that leaving may take."""


class Lease:
    """`unknown` gives the index the torrents that it does not know, by info hash.

    `lost` is told why when the index is out of reach or refuses, `back` when it has us again;
    `again` is called before each new attempt, and may move `index` to where it is now.
    """

    def __init__(
        self,
        index: IndexClient,
        port: int,
        *,
        unknown: Callable[[Sequence[str]], Awaitable[None]],
        lost: Callable[[str], None],
        back: Callable[[], None],
        again: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._index = index
        self._port = port
        self._unknown = unknown
        self._lost = lost
        self._back = back
        self._again = again
        self._torrents: frozenset[str] = frozenset()
        self._wanted = 0
        self._told = -1
        """Which version of the list was wanted last, and which the index has."""
        self._problem = ""
        self._renew_every = 10.0
        self._wake = asyncio.Event()
        self._settled = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str:
        """Why the index does not have us now; empty when it does."""
        return self._problem

    async def start(self) -> None:
        """Register for the first time, and go on in the background whatever comes of it.

        Raises `NodeTaken` and `NotAllowed`: those do not mend themselves.
        """
        await self._step()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lease")

    def set(self, torrents: Iterable[str]) -> None:
        """The info hashes (40 hexadecimal digits) that are seeded from now on."""
        new = frozenset(torrents)
        if new != self._torrents:
            self._torrents = new
            self._wanted += 1
            self._wake.set()

    async def settled(self) -> None:
        """Until the index has the list as it is now, or is found not to answer."""
        wanted = self._wanted
        async with self._settled:
            await self._settled.wait_for(lambda: self._told >= wanted or bool(self._problem))

    async def close(self) -> None:
        """Leave; an index that does not answer is not waited for long."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._told >= 0:
            with contextlib.suppress(TimeoutError, P2pfsError):
                async with asyncio.timeout(GOODBYE):
                    await self._index.unregister()

    async def _run(self) -> None:
        while True:
            if self._problem:
                await asyncio.sleep(RETRY_EVERY)
                await self._look_again()
            elif await self._woken(self._renew_every):
                await asyncio.sleep(GATHER)
            self._wake.clear()
            try:
                await self._step()
            except (NodeTaken, NotAllowed) as error:
                await self._failed(str(error))
            except Exception as error:
                log.exception("a fault of ours in a registration")
                await self._failed(f"a fault of ours: {error}")

    async def _look_again(self) -> None:
        if self._again is not None:
            try:
                await self._again()
            except P2pfsError as error:
                log.info("the index is not found elsewhere: %s", error)

    async def _woken(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                return True
        return False

    async def _step(self) -> None:
        """One renewal, or the list as it is now."""
        wanted = self._wanted
        try:
            if self._told == wanted and await self._index.renew():
                await self._succeeded(wanted)
                return
            registered = await self._index.register(self._port, sorted(self._torrents))
            self._renew_every = registered.renew_every
            if registered.unknown:
                await self._unknown(registered.unknown)
        except (NodeTaken, NotAllowed):
            self._told = -1
            raise
        except P2pfsError as error:
            await self._failed(str(error))
            return
        await self._succeeded(wanted)

    async def _failed(self, problem: str) -> None:
        self._told = -1
        first = not self._problem
        self._problem = problem
        log.warning("the index does not have us: %s", problem)
        async with self._settled:
            self._settled.notify_all()
        if first:
            self._lost(problem)

    async def _succeeded(self, wanted: int) -> None:
        self._told = wanted
        problem, self._problem = self._problem, ""
        async with self._settled:
            self._settled.notify_all()
        if problem:
            self._back()

"""Whom one torrent connects to: addresses that it heard of, dialled when they are due.

Invariant: no more than `HALF_OPEN` dials are under way, none beyond `WANT_CONNECTED` peers,
and none after `close`; of names, each of which takes a thread to resolve, a tracker can have
us dial a few only.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

from p2pfs.errors import P2pfsError
from p2pfs.formats.announce_http import PeerAddress
from p2pfs.net.progress import label
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.peer_book import Address, PeerBook

__all__ = ["Dialler"]

log = logging.getLogger(__name__)

HALF_OPEN: Final = 20
WANT_CONNECTED: Final = 100
MAX_NAMES: Final = 8
"""Peers named by a tracker instead of addressed that are dialled."""


class DiallerOwner(Protocol):
    """The torrent that dials."""

    @property
    def connected(self) -> Sequence[Peer]:
        """The peers that are there."""
        ...

    @property
    def finished(self) -> bool:
        """Whether it has all that it wants."""
        ...

    def wake(self) -> None:
        """There is an address to be dialled some time."""
        ...


class Dialler:
    """`connect` connects to an address, or raises; `book` is what is known of all of them."""

    def __init__(
        self,
        owner: DiallerOwner,
        connect: Callable[[Address], Awaitable[None]],
        rng: random.Random,
    ) -> None:
        self._owner = owner
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._under_way: set[asyncio.Task[None]] = set()
        self._names = 0
        self._closed = False
        self.book = PeerBook(rng)

    @property
    def pause(self) -> float:
        """Seconds until there is something to do; 0 while a dial is under way."""
        if self._under_way:
            return 0.0
        return max(0.0, self.book.next_at() - self._loop.time())

    def add(self, addresses: Iterable[Address], *, hearsay: bool = False) -> None:
        """Addresses to dial; `hearsay`: of whoever says so."""
        now = self._loop.time()
        if sum(self.book.heard_of(one, now, hearsay=hearsay) for one in addresses):
            self.dial()
        self._owner.wake()

    def called(self, address: Address) -> None:
        """Whoever listens at `address` says that it is there."""
        if self.book.called(address, self._loop.time()):
            self.dial()
            self._owner.wake()

    def found(self, peers: Iterable[PeerAddress]) -> None:
        """The same from a tracker."""
        taken = []
        for peer in peers:
            if not peer.host[-1:].isdigit() and ":" not in peer.host:
                if self._names >= MAX_NAMES:
                    continue
                self._names += 1
            taken.append((peer.host, peer.port))
        self.add(taken)

    def dial(self) -> None:
        """Dial who is due, as far as there is room."""
        room = min(HALF_OPEN - len(self._under_way), WANT_CONNECTED - len(self._owner.connected))
        if self._closed or room <= 0:
            return
        if not self._owner.finished:
            self.book.gain_possible()
        for address in self.book.to_dial(room, self._loop.time()):
            task = self._loop.create_task(self._dial_one(address))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _dial_one(self, address: Address) -> None:
        try:
            await self._connect(address)
        except (OSError, P2pfsError, ValueError) as error:  # the last for what cannot be a name
            log.info("cannot connect to %s: %s", label(address), error)
            self.lost(address, failed=True)

    def lost(self, address: Address, *, failed: bool) -> None:
        """No longer connected to `address`, unless by another connection to the same peer."""
        if all(peer.listens_at != address for peer in self._owner.connected):
            self.book.disconnected(address, self._loop.time(), failed=failed)
            self._owner.wake()

    def forget_all(self) -> None:
        """Know nobody any more, and break off what is under way."""
        self.book.forget_all()
        for task in self._under_way:
            task.cancel()

    async def close(self) -> None:
        """Dial nobody any more."""
        self._closed = True
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

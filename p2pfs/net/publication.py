"""What a node tells the index: its lease, the torrents that are unknown there, withdrawals.

Invariant: the index is told of a torrent only while we serve it, and nothing that goes
wrong there reaches the sharing itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from p2pfs.errors import P2pfsError
from p2pfs.formats.metainfo import Metainfo
from p2pfs.net.index_client import IndexClient
from p2pfs.net.lease import Lease

__all__ = ["Publication"]

log = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Requests to the index at the same time: it writes those together."""


class Publication:
    """`ours` gives what is served now, by info hash (40 hexadecimal digits).

    `refused` hears (name, reason) of a torrent that the index does not take; `lost`,
    `back` and `again` as for `Lease`.
    """

    def __init__(
        self,
        index: IndexClient,
        port: int,
        ours: Callable[[], Mapping[str, Metainfo]],
        *,
        refused: Callable[[str, str], None],
        lost: Callable[[str], None],
        back: Callable[[], None],
        again: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._index = index
        self._ours = ours
        self._refused = refused
        self.lease = Lease(index, port, unknown=self._publish, lost=lost, back=back, again=again)

    def update(self) -> None:
        """What is served has changed: the index hears of it soon."""
        self.lease.set(self._ours())

    async def settled(self) -> None:
        """Until the index knows what is served now, or does not answer."""
        self.update()
        await self.lease.settled()

    async def take_back(self, hashes: Iterable[str]) -> None:
        """Withdraw what we do not serve any more; what others published too stays."""
        ours = self._ours()
        waiting = [info_hash for info_hash in hashes if info_hash not in ours]

        async def withdraw() -> None:
            while waiting:
                info_hash = waiting.pop()
                try:
                    await self._index.withdraw(info_hash)
                except P2pfsError as error:
                    log.info("%s stays in the catalogue: %s", info_hash, error)

        await asyncio.gather(*(withdraw() for _ in range(AT_ONCE)))

    async def _publish(self, unknown: Sequence[str]) -> None:
        """Give the index the torrents that it does not know."""
        ours = self._ours()
        waiting = [ours[one] for one in unknown if one in ours]
        reasons: set[str] = set()

        async def publish() -> None:
            while waiting:
                metainfo = waiting.pop()
                try:
                    await self._index.publish(metainfo.to_bytes())
                except P2pfsError as error:
                    if str(error) not in reasons:
                        reasons.add(str(error))
                        self._refused(metainfo.shared_name, str(error))

        await asyncio.gather(*(publish() for _ in range(AT_ONCE)))

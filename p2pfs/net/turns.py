"""Shares a limited upload among torrents: each that has peers, in its turn.

Invariant: what one torrent raises stops no other, and nothing is sent beyond the limit.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2pfs.net.limits import UpLimit

if TYPE_CHECKING:
    from p2pfs.net.torrent import Torrent

__all__ = ["Turns"]

log = logging.getLogger(__name__)


class Turns:
    """For one client; `rate` in bytes a second, None for as fast as it goes."""

    def __init__(self, rate: float | None) -> None:
        self._torrents: deque[Torrent] = deque()
        self.limit = UpLimit(rate, self._pump)

    def __iter__(self) -> Iterator[Torrent]:
        """Those that have, or had, peers and are still there."""
        return iter(self._torrents)

    def add(self, torrent: Torrent) -> None:
        """A torrent has a peer."""
        if torrent not in self._torrents:
            self._torrents.append(torrent)

    def forget(self, torrent: Torrent) -> None:
        """A torrent is closed."""
        with contextlib.suppress(ValueError):
            self._torrents.remove(torrent)

    def _pump(self) -> None:
        """Answer requests in all torrents while the limit allows."""
        turns = self._torrents
        idle = 0
        while turns and idle < len(turns):
            if not self.limit.may_send():
                return
            torrent = turns[0]
            if not torrent.exchange.connections:
                turns.popleft()
                continue
            turns.rotate(-1)
            try:
                sent = torrent.exchange.serve_one()
            except Exception:
                log.exception("a fault of ours in %s", torrent.name)
                sent = 0
            self.limit.sent(sent)
            idle = 0 if sent else idle + 1

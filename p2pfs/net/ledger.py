"""What one torrent exchanged with whom, also with peers that have left.

Invariant: what is told is a snapshot, and what is remembered of strangers is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from p2pfs.net.progress import PeerInfo, Source, label
from p2pfs.swarm.peer import Peer

__all__ = ["Ledger", "peer_info"]

MAX_REMEMBERED: Final = 10_000
"""Peers of which is remembered that they were there, and what was exchanged with them."""


class Ledger:
    """Keeps the sums; the peers that are connected keep their own until they leave."""

    def __init__(self) -> None:
        self._left: dict[bytes, Source] = {}
        self._met: set[bytes] = set()

    @property
    def met(self) -> int:
        """Peers that were connected since the start."""
        return len(self._met)

    def joined(self, peer_id: bytes) -> None:
        if len(self._met) < MAX_REMEMBERED:
            self._met.add(peer_id)

    def left(self, peer: Peer) -> None:
        """A peer is gone; what it gave and took still counts."""
        if peer.down.total or peer.up.total:
            self._left[peer.peer_id] = self._source(peer)
            if len(self._left) > MAX_REMEMBERED:
                del self._left[next(iter(self._left))]

    def sources(self, connected: Sequence[Peer]) -> tuple[Source, ...]:
        """One for each peer with which something was exchanged, and each that is there."""
        now = {peer.peer_id: self._source(peer) for peer in connected}
        return tuple((self._left | now).values())

    def _source(self, peer: Peer) -> Source:
        """What was exchanged with a peer, former connections to it included."""
        before = self._left.get(peer.peer_id)
        return Source(
            address=label(peer.listens_at or peer.address),
            client=peer.client,
            bytes_down=peer.down.total + (before.bytes_down if before else 0),
            bytes_up=peer.up.total + (before.bytes_up if before else 0),
        )


def peer_info(peer: Peer, now: float) -> PeerInfo:
    """A connection as it is told to users."""
    return PeerInfo(
        address=label(peer.listens_at or peer.address),
        client=peer.client,
        direction="out" if peer.outgoing else "in",
        down_rate=peer.down.rate(now),
        up_rate=peer.up.rate(now),
        pieces=peer.session.peer_has.count,
        bytes_down=peer.down.total,
        bytes_up=peer.up.total,
        am_choking=peer.session.am_choking,
        am_interested=peer.session.am_interested,
        peer_choking=peer.session.peer_choking,
        peer_interested=peer.session.peer_interested,
        snubbed=peer.pipeline.snubbed,
    )

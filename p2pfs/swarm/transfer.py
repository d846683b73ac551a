"""One torrent's coordinator: events of its sessions in, effects out.

Invariant: every piece in `have` is verified and on disk, and every connected peer has
been told of it (in the bitfield it got first, or by a `have`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from p2pfs.errors import WireError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import ExtendedHandshake
from p2pfs.geometry import Geometry
from p2pfs.swarm.effects import Close, Effect, Heard, Learned
from p2pfs.swarm.events import (
    BlockArrived,
    BlockCancelled,
    BlockRequested,
    Breached,
    Event,
    Extended,
    InterestChanged,
    PeerBitfield,
    PeerChoked,
    PeerExtended,
    PeerHave,
    PeerHaves,
    PeerLost,
    PeerRejected,
    PeerUnchoked,
    PeerUploadOnly,
)
from p2pfs.swarm.leeching import Leeching
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.serving import Serving

__all__ = ["Transfer"]

DEFAULT_SLOTS: Final = 8
SAMPLE_EVERY: Final = 1.0


class Transfer:
    """`have`: what is verified now (kept up to date here); `wanted`: what to fetch, default all."""

    def __init__(
        self,
        geometry: Geometry,
        have: Bitfield,
        rng: random.Random,
        *,
        wanted: Bitfield | None = None,
        slots: int = DEFAULT_SLOTS,
    ) -> None:
        self.have = have
        self.peers: list[Peer] = []
        self.leeching = Leeching(geometry, have, rng, wanted)
        self.serving = Serving(have, slots, rng)
        self._sample_at = 0.0

    @property
    def finished(self) -> bool:
        """Whether nothing is left to fetch."""
        return self.leeching.finished

    def take_effects(self) -> list[Effect]:
        effects, self.leeching.effects = self.leeching.effects, []
        return effects

    def join(self, peer: Peer, introduction: ExtendedHandshake) -> None:
        """A connection whose handshakes are through: our bitfield goes out, and what we are."""
        self.peers.append(peer)
        self.leeching.joined(peer)
        self.serving.joined(peer)
        peer.session.send_bitfield(self.have)
        peer.session.send_extended_handshake(replace(introduction, upload_only=self.finished))

    def leave(self, peer: Peer, now: float) -> None:
        """The connection is gone; what it owed is asked of others at once."""
        self.peers.remove(peer)
        self.leeching.left(peer)
        self.serving.left(peer)
        self.leeching.refill(now)
        self.serving.tick(now, seeding=self.finished)

    def receive(self, peer: Peer, events: Iterable[Event], now: float) -> None:
        """What one `receive_data` of the peer's session brought."""
        leeching, serving = self.leeching, self.serving
        for event in events:
            if type(event) is BlockArrived:
                leeching.arrived(peer, event)
            elif type(event) is BlockRequested:
                serving.requested(peer, event.block)
            elif isinstance(event, PeerHave):
                leeching.has(peer, event.piece)
                serving.has(peer, event.piece)
                self._close_if_redundant(peer)
            elif isinstance(event, BlockCancelled):
                serving.cancelled(peer, event.block)
            elif isinstance(event, PeerBitfield):
                leeching.bitfield(peer, event.has)
                serving.greeted(peer)
                self._close_if_redundant(peer)
            elif isinstance(event, PeerHaves):
                leeching.has_more(peer, event.pieces)
                serving.has(peer, *event.pieces)
                self._close_if_redundant(peer)
            elif isinstance(event, PeerChoked):
                leeching.choked(peer, event.lost)
            elif isinstance(event, PeerRejected):
                leeching.refused(peer, event.block, now)
            elif isinstance(event, InterestChanged):
                serving.interest_changed(peer)
            elif isinstance(event, PeerExtended):
                peer.pipeline.limit(event.handshake.reqq)
                leeching.effects.append(Learned(peer, event.handshake))
                self._close_if_redundant(peer)
            elif isinstance(event, Extended):
                leeching.effects.append(Heard(peer, event.name, event.payload))
            elif isinstance(event, PeerLost):
                leeching.lost_by(peer, event.piece, event.lost)
            elif isinstance(event, PeerUploadOnly):
                self._close_if_redundant(peer)
            elif isinstance(event, Breached):
                leeching.effects.append(Close(peer, event.reason))
            else:
                assert isinstance(event, PeerUnchoked)
                leeching.unchoked(peer)
        serving.tick(now, seeding=self.finished)
        leeching.top_up(peer, now)
        leeching.refill(now)

    def verified(self, piece: int, digests: Sequence[bytes], now: float) -> None:
        """`piece` passed its hash and is on disk: everybody is told."""
        if not self.have.add(piece):
            return
        for peer in self.peers:
            peer.session.send_have(piece)
        self.leeching.verified(piece, digests)
        if self.finished:
            for peer in self.peers:
                if not self.have.complete:  # who is complete is known to want nothing
                    peer.session.send_upload_only(True)
                self._close_if_redundant(peer)
        self.leeching.refill(now)

    def rejected(self, piece: int, digests: Sequence[bytes], now: float) -> None:
        """`piece` failed its hash; `digests` are the SHA-1 of its blocks."""
        self.leeching.rejected(piece, digests)
        self.leeching.refill(now)

    def lost(self, piece: int) -> None:
        """A verified piece is no longer what it was on disk: it is not served again.

        Peers that understand it are told (BEP 54); the others get no answer to requests for it.
        """
        if self.have.discard(piece):
            for peer in self.peers:
                peer.session.send_dont_have(piece)
            self.leeching.picker.lost(piece)
            self.serving.lost(piece)

    def tick(self, now: float) -> None:
        """To be called a few times a second: timeouts, rates, choking, late requests."""
        for peer in self.peers:
            try:
                peer.session.tick(now)
            except WireError as error:
                self.leeching.effects.append(Close(peer, str(error)))
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_EVERY
            for peer in self.peers:
                peer.down.sample(now)
                peer.up.sample(now)
        self.serving.tick(now, seeding=self.finished)
        self.leeching.tick(now)

    def _close_if_redundant(self, peer: Peer) -> None:
        if not self.finished:
            return
        session = peer.session
        if self.have.complete and session.peer_has.complete:
            reason = "both ends are complete"
        elif session.introduction.upload_only:
            reason = "neither end wants anything"
        else:
            return
        self.leeching.effects.append(Close(peer, reason, redundant=True))

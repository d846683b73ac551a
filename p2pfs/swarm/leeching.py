"""The download side of one torrent: interest, requests, arrivals, blame.

Invariant: interest in a peer is true exactly while it has a piece that is needed, choked
or not (PROTOCOL of BEP 3); no request is lost: each is outstanding at a peer, answered,
or free for others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from p2pfs.formats.allowed_fast import ALLOWED_FAST
from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry, blocks_in
from p2pfs.swarm.blame import Blame
from p2pfs.swarm.effects import Close, Completed, Effect, Forget, Store, Verify
from p2pfs.swarm.events import BlockArrived
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.picker import LATE_AFTER, Picker, PieceState, Source
from p2pfs.swarm.web_seed import WebSeed

__all__ = ["Leeching", "is_slower"]

GIVE_UP_AFTER: Final = 60.0
"""Seconds without a block after which a snubbed peer is asked for another one."""

RETRY_AFTER: Final = 0.25
"""Seconds between two searches for end-game blocks at one peer that has room."""

MUCH_SLOWER: Final = 2.0
"""How many times longer a peer must take before another is asked for what it owes."""


REST_AFTER_REJECT: Final = 1.0
"""Seconds for which a peer that rejected a request without choking is asked for nothing."""

REFUSED_FOR: Final = 10.0
"""Seconds for which it is not asked for the piece that it rejected."""

TURNED_AWAY_FOR: Final = 3.0
"""The same of one of ours that has better to give: others got the piece, and announce it soon."""

TURNED_AWAY: Final = 64
"""Pieces rejected by one of ours beyond which it is treated like any other."""

PATIENCE: Final = 5.0
"""Seconds before a peer that chokes is asked for the pieces that it allows nevertheless."""


class Leeching:
    """Decides what to ask of whom, and what to make of the answers."""

    def __init__(
        self, geometry: Geometry, have: Bitfield, rng: random.Random, wanted: Bitfield | None
    ) -> None:
        self.picker = Picker(geometry, have, rng, wanted)
        self.effects: list[Effect] = []
        self.suspended = False
        """While true nothing is asked for (the disk cannot take it)."""
        self.wasted = 0
        self.hash_failures = 0
        self._geometry = geometry
        self._have = have  # kept up to date by the transfer
        self._blame = Blame()
        self._suspects: set[Source] = set()
        self._peers: list[Peer] = []
        self._refill = False

    @property
    def finished(self) -> bool:
        return self.picker.remaining == 0

    # -- what peers have

    def joined(self, peer: Peer) -> None:
        self._peers.append(peer)

    def left(self, peer: Peer) -> None:
        self._peers.remove(peer)
        session = peer.session
        self.release(peer, tuple(session.outstanding))
        session.outstanding.clear()
        self.picker.source_left(session.peer_has, peer.joined_complete)

    def bitfield(self, peer: Peer, has: Bitfield) -> None:
        """What `peer` has, of which nothing was known."""
        peer.joined_complete = has.complete
        self.picker.source_joined(has)
        peer.interesting = self.picker.remaining if has.complete else self.picker.needed_of(has)
        peer.session.set_interested(peer.interesting > 0)

    def has_more(self, peer: Peer, pieces: Bitfield) -> None:
        """`peer` has `pieces` beside what it was known to have."""
        if pieces.complete:
            self.bitfield(peer, pieces)
        else:
            self.picker.source_joined(pieces)
            peer.interesting += self.picker.needed_of(pieces)
            peer.session.set_interested(peer.interesting > 0)
        peer.retry_at = 0.0

    def has(self, peer: Peer, piece: int) -> None:
        self.picker.source_has(piece)
        if self.picker.is_needed(piece):
            peer.interesting += 1
            peer.session.set_interested(True)
            peer.retry_at = 0.0

    def lost_by(self, peer: Peer, piece: int, lost: Sequence[BlockRequest]) -> None:
        """`peer` has `piece` no more; `lost` are requests that it will not answer."""
        if peer.joined_complete:  # it is counted piece by piece from here on
            peer.joined_complete = False
            left = Bitfield.full(self._geometry.piece_count)
            self.picker.source_left(left, True)
            left.discard(piece)
            self.picker.source_joined(left)
        else:
            self.picker.source_lost(piece)
        if self.picker.is_needed(piece):
            peer.interesting -= 1
            peer.session.set_interested(peer.interesting > 0)
        self.release(peer, lost)

    # -- requests

    def choked(self, peer: Peer, lost: Sequence[BlockRequest]) -> None:
        self.release(peer, lost)

    def unchoked(self, peer: Peer) -> None:
        """`peer` serves us again: what it was late with is as free for it as the rest."""
        if peer.pipeline.snubbed:
            peer.pipeline.snubbed = False
            self._take_back(peer)

    def refused(self, peer: Peer, block: BlockRequest, now: float) -> None:
        """`peer` rejected a request: others are asked at once, and it a little later."""
        self.release(peer, (block,))
        session = peer.session
        if session.peer_choking or not session.peer_has[block.piece]:
            return
        if session.same_dialect and len(peer.refused) < TURNED_AWAY:
            peer.refused[block.piece] = now + TURNED_AWAY_FOR
        else:
            peer.refused[block.piece] = now + REFUSED_FOR
            peer.rests_until = now + REST_AFTER_REJECT
            peer.pipeline.refused()

    def release(self, source: Source, blocks: Sequence[BlockRequest]) -> None:
        """`source` will not deliver `blocks`: they are for others."""
        self.picker.released(source, blocks)
        self._refill = True

    def _take_back(self, peer: Peer) -> None:
        """Take every request to `peer` back."""
        blocks = tuple(peer.session.outstanding)
        self.release(peer, blocks)
        peer.session.cancel(blocks)

    def is_suspect(self, source: Source) -> bool:
        """Whether it took part in a piece that failed its hash, and nobody is proved guilty yet."""
        return source in self._suspects

    def top_up(self, peer: Peer, now: float) -> None:
        """Send the peer as many requests as its pipeline has room for."""
        session = peer.session
        if not peer.interesting or self.suspended or now < peer.rests_until:
            return
        has: Bitfield | None = session.peer_has
        if session.peer_choking:
            has = self._allowed(peer, now) if session.allowed else None
        elif peer.refused:
            has = self._not_refused(peer, now)
        pipeline = peer.pipeline
        room = pipeline.room(session.owed)
        if has is None or room <= 0:
            return
        run = min(pipeline.run, session.run_length // BLOCK_LENGTH)
        alone = peer in self._suspects
        blocks = self.picker.pick(peer, has, room, now, run=run, alone=alone)
        if alone and not blocks and not session.outstanding:
            # Rather shared with a suspect than never finished: there may be nobody else.
            blocks = self.picker.pick(peer, has, room, now, run=run)
        room -= sum(map(blocks_in, blocks))
        if room > 0 and now >= peer.retry_at:
            again = self.picker.pick_again(
                peer,
                has,
                room,
                now,
                slower=lambda asked: is_slower(asked, pipeline.wait, now),
            )
            if not again:
                peer.retry_at = now + RETRY_AFTER
            blocks += again
        if blocks:
            session.request(blocks, now)

    def _allowed(self, peer: Peer, now: float) -> Bitfield | None:
        """What may be asked of `peer` while it chokes, if we are in need of that to start.

        Where somebody else serves us rare pieces are of more use: newcomers of one network
        are all allowed the same ones.
        """
        session = peer.session
        if now - peer.connected_at < PATIENCE or self._have.count >= ALLOWED_FAST:
            return None
        if any(other.interesting and not other.session.peer_choking for other in self._peers):
            return None
        pieces = [p for p in session.allowed if session.peer_has[p] and self.picker.is_needed(p)]
        return Bitfield.of(self._geometry.piece_count, pieces) if pieces else None

    def _not_refused(self, peer: Peer, now: float) -> Bitfield:
        peer.refused = {piece: until for piece, until in peer.refused.items() if until > now}
        return peer.session.peer_has - Bitfield.of(self._geometry.piece_count, peer.refused)

    def refill(self, now: float) -> None:
        """Give blocks that became free to whoever has room."""
        if self._refill:
            self._refill = False
            for peer in self._peers:
                self.top_up(peer, now)

    def tick(self, now: float) -> None:
        for peer in self._peers:
            outstanding = peer.session.outstanding
            if peer.pipeline.check(now, peer.session.last_block_at, peer.session.owed):
                late = tuple(outstanding)
                self.release(peer, late)
                peer.session.cancel(late[1:])  # the first is left to it, to prove itself with
            elif peer.pipeline.snubbed and now - peer.session.last_block_at >= GIVE_UP_AFTER:
                self._take_back(peer)  # it may have dropped that: ask afresh
            self.top_up(peer, now)
        self.refill(now)

    # -- arrivals

    def arrived(self, peer: Peer, event: BlockArrived) -> None:
        block, data, waited = event
        if waited is not None:
            peer.pipeline.arrived(waited, blocks_in(block))
        self.received(peer, block, data)

    def received(self, source: Peer | WebSeed, block: BlockRequest, data: memoryview) -> None:
        """`source` delivered `block`, which it had been asked for at some time."""
        source.down.add(block.length)
        wanted, complete, also_asked = self.picker.arrived(source, block)
        useful = 0
        for part in wanted:
            start = part.begin - block.begin
            useful += part.length
            self.effects.append(Store(part, data[start : start + part.length]))
        if useful < block.length:
            source.wasted += block.length - useful
            self.wasted += block.length - useful
        for other in also_asked:
            if isinstance(other, Peer):
                self._cancel_needless(other, block.piece)
        if complete:
            piece = block.piece
            self.effects.append(Verify(piece, self._blame.wants_digests(piece)))

    def _cancel_needless(self, peer: Peer, piece: int) -> None:
        """Take back requests for blocks that others have delivered meanwhile."""
        is_missing = self.picker.is_missing
        outstanding = peer.session.outstanding
        peer.session.cancel(
            [block for block in outstanding if block.piece == piece and not is_missing(block)]
        )

    def verified(self, piece: int, digests: Sequence[bytes]) -> None:
        """`piece` is right and on disk. `digests` as asked for by `Verify`, else empty."""
        picker = self.picker
        if picker.state(piece) is not PieceState.CHECKING:
            return
        picker.verified(piece)
        for peer in self._peers:
            if peer.session.peer_has[piece]:
                peer.interesting -= 1
                if not peer.interesting:
                    peer.session.set_interested(False)
        if digests:
            self._condemn(self._blame.passed(piece, digests))
        if not picker.remaining:
            self.effects.append(Completed())

    def rejected(self, piece: int, digests: Sequence[bytes]) -> None:
        """`piece` failed its hash; `digests` are the SHA-1 of its blocks."""
        if self.picker.state(piece) is not PieceState.CHECKING:
            return
        self.hash_failures += 1
        self.wasted += self._geometry.piece_size(piece)
        guilty = self._blame.failed(piece, self.picker.givers(piece), digests)
        self.picker.rejected(piece)
        self._refill = True
        self._condemn(guilty)

    def _condemn(self, guilty: set[Source]) -> None:
        reason = "sent data that fails the hash"
        for source in guilty:
            if isinstance(source, Peer):
                self.effects.append(Close(source, reason, banned=True))
            elif isinstance(source, WebSeed):
                source.disable(reason)
        self._suspects = self._blame.suspects()

    # -- the disk

    def write_failed(self, piece: int) -> None:
        """`piece` could not be written: wanted again, but nothing is asked for until `resume`."""
        if self.picker.state(piece) is PieceState.CHECKING:
            self.picker.rejected(piece, exclusive=False)
        self.suspend()

    def suspend(self) -> None:
        """Take back every request; what was stored so far stays."""
        self.suspended = True
        for peer in self._peers:
            self._take_back(peer)

    def resume(self) -> None:
        self.suspended = False
        self._refill = True

    def abandon(self, piece: int) -> None:
        """What was stored of `piece` was lost: it is to be fetched whole."""
        if self.picker.state(piece) is PieceState.IN_PROGRESS:
            self.picker.rejected(piece, exclusive=False)
            self.effects.append(Forget(piece))
            self._refill = True


def is_slower(asked: Source, wait: float, now: float) -> bool:
    """Whether `asked` will take much longer for what it owes than `wait` seconds.

    `wait` is what another takes for a block. Where the downlink is what is short all wait
    alike, and a block that comes twice only holds the others up.
    """
    if isinstance(asked, WebSeed):
        return asked.lags(max(MUCH_SLOWER * wait, LATE_AFTER), now)
    if not isinstance(asked, Peer):
        return True
    rate = asked.down.rate(now)
    silent = now - asked.session.last_block_at
    if not rate or silent > max(MUCH_SLOWER * asked.pipeline.wait, LATE_AFTER):
        return True
    return asked.session.owed * BLOCK_LENGTH / rate > MUCH_SLOWER * wait

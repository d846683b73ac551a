"""The upload side of one torrent: who may ask, and which request is answered next.

Invariant: a block goes out only for a piece that is verified, and only to a peer that is
unchoked or was granted the piece; a choked peer has no other requests queued. A peer that
speaks the fast extension gets one answer to each request: the block, or a reject (BEP 6).
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from typing import Final

from p2pfs.formats.allowed_fast import ALLOWED_FAST
from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BlockRequest
from p2pfs.swarm.choker import RECHOKE_EVERY, Candidate, Choker
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.seeding import Ready, ServeOrder

__all__ = ["Serving"]

LARGE_ENOUGH: Final = 10 * ALLOWED_FAST
"""Pieces of a torrent of which some are given away to the choked."""

KEEPS_TURN_FOR: Final = 2.0
"""Seconds for which a piece may keep the others waiting, or one block of it if that takes longer.

Of 8 that are served in turn each is then served before 20 s are over, when libtorrent takes its
requests back, unless runs of 256 KiB, as our own fast peers ask for, leave more slowly than
about 100 kB/s.
"""


class Serving:
    """Decides whom to unchoke and what to send them."""

    def __init__(self, have: Bitfield, slots: int, rng: random.Random) -> None:
        self._have = have
        self._rng = rng
        self._slots = slots
        self._choker = Choker(slots)
        self._order = ServeOrder(len(have))
        self._turn = 0
        self._turns: dict[Peer, int] = {}
        self._current: tuple[Hashable, int] | None = None
        """To whom which piece was given last, in a turn that began at `_current_since`."""
        self._current_since = 0.0
        self._current_blocks = 0
        """How many of its blocks were sent in this turn."""
        self._rechoke_at = 0.0
        self._fill = False
        self._peers: list[Peer] = []

    def joined(self, peer: Peer) -> None:
        self._peers.append(peer)

    def greeted(self, peer: Peer) -> None:
        """It is known what the peer has: whoever starts may take some pieces at once."""
        if len(self._have) >= LARGE_ENOUGH and peer.session.peer_has.count < ALLOWED_FAST:
            peer.session.grant(peer.fast_set)

    def left(self, peer: Peer) -> None:
        self._peers.remove(peer)
        peer.uploads.clear()
        self._order.forget(peer)
        self._turns.pop(peer, None)
        if self._current is not None and self._current[0] is peer:
            self._current = None
        self._fill = True

    def interest_changed(self, peer: Peer) -> None:
        """A slot falls free, or is asked for: given away at the next `tick`."""
        if not peer.session.peer_interested:
            peer.session.reject(peer.uploads.clear())
        elif not peer.session.am_choking and self._served() > self._slots:
            self._choke(peer)  # unchoked while that cost nothing
        self._fill = True

    def _served(self) -> int:
        sessions = [peer.session for peer in self._peers]
        return sum(1 for s in sessions if s.peer_interested and not s.am_choking)

    def _choke(self, peer: Peer) -> None:
        peer.session.choke()
        peer.session.reject(peer.uploads.clear(keep=peer.session.granted))

    def requested(self, peer: Peer, block: BlockRequest) -> None:
        session, piece = peer.session, block.piece
        may_ask = not session.am_choking or piece in session.granted
        if not (may_ask and self._have[piece] and peer.uploads.add(block)):
            session.reject((block,))

    def has(self, peer: Peer, *pieces: int) -> None:
        """The peer has these pieces more."""
        for piece in pieces:
            self._order.seen(peer, piece)

    def cancelled(self, peer: Peer, block: BlockRequest) -> None:
        if peer.uploads.cancel(block):
            peer.session.reject((block,))

    def serve(self, peer: Peer, ready: Ready, room: int = 1) -> int:
        """Send blocks of one piece to `peer`, until they have `room` bytes: how many they have.

        0 when there is none to send now.
        """
        if not peer.uploads:
            return 0
        piece = self._order.best(peer, peer.uploads)[1]
        return self._send(peer, piece, room) if ready(piece) else 0

    def serve_best(
        self, peers: Iterable[Peer], ready: Ready, now: float
    ) -> tuple[Peer, int] | None:
        """Send the most useful block that any of `peers` asked for: to whom, and its bytes.

        A seeder gives first copies before second ones, and to those who passed on what they
        got: so its copies go where uplinks are fast. Whoever downloads serves all in turn: a
        request that had to wait for better ones would keep its piece from being asked for
        elsewhere. Either goes on with the piece that it began: half a piece is of use to nobody
        else.

        Only here does a seeder send peers away: without a limit that gains little, and who can
        reach nobody else would never be served.
        """
        seeding, held = self._have.complete, self._order.held
        turn = self._whose_turn(now)

        def rank(peer: Peer) -> tuple[bool, int, int]:
            return peer is not turn, held(peer) if seeding else 0, self._turns.get(peer, 0)

        queues = ((peer, peer.uploads) for peer in sorted(peers, key=rank))
        chosen = self._order.choose(queues, ready, first=not seeding, turn=turn)
        if chosen is None:
            return None
        if self._current != chosen:
            self._current = chosen
            self._current_since = now
            self._current_blocks = 0
        self._current_blocks += 1
        peer, piece = chosen
        assert isinstance(peer, Peer)
        self._turn += 1
        self._turns[peer] = self._turn
        if seeding and self._order.is_new(piece):
            self._turn_away(peer)
        return peer, self._send(peer, piece)

    def _whose_turn(self, now: float) -> Hashable | None:
        """Who was served last and waits for more of that piece.

        A turn ends before the block that would take it beyond its time at the present pace.
        """
        if self._current is None:
            return None
        peer, piece = self._current
        assert isinstance(peer, Peer)
        lasted = now - self._current_since
        lasts = lasted + lasted / self._current_blocks
        return peer if piece in peer.uploads and lasts <= KEEPS_TURN_FOR else None

    def _send(self, peer: Peer, piece: int, room: int = 1) -> int:
        length = 0
        for block in peer.uploads.take(piece, room):
            peer.session.send_block(block)
            length += block.length
        self._order.gave(peer, piece)
        peer.up.add(length)
        return length

    def _turn_away(self, served: Peer) -> None:
        """While `served` is given what nobody had: who asks for what others got asks those.

        Left in the queue, such a request would keep a peer from asking for it elsewhere, and
        from asking here for what is new. Foreign clients may take a reject otherwise, and to
        a choked peer it ends what it was granted.
        """
        for peer in self._peers:
            session = peer.session
            if peer is served or session.am_choking or not session.same_dialect:
                continue
            for piece in peer.uploads.pieces():
                if self._order.cost(peer, piece):
                    session.reject(peer.uploads.drop(piece))

    def lost(self, piece: int) -> None:
        """`piece` is not had any more: nobody is sent any of it."""
        for peer in self._peers:
            peer.session.reject(peer.uploads.drop(piece))

    def tick(self, now: float, *, seeding: bool) -> None:
        """Rechoke when it is due; between that only give free slots away."""
        if now >= self._rechoke_at:
            self._rechoke_at = now + RECHOKE_EVERY
            self._rechoke(now, seeding)
        elif self._fill:
            self._fill_slots()
        self._fill = False

    def _fill_slots(self) -> None:
        free = self._slots - self._served()
        if free <= 0:
            return
        waiting = [p for p in self._peers if p.session.peer_interested and p.session.am_choking]
        for peer in self._rng.sample(waiting, min(free, len(waiting))):
            peer.session.unchoke()

    def _rechoke(self, now: float, seeding: bool) -> None:
        candidates = [
            Candidate(
                key=peer,
                interested=peer.session.peer_interested,
                unchoked=not peer.session.am_choking,
                rate=(peer.up if seeding else peer.down).rate(now),
                snubbed=peer.pipeline.snubbed and not seeding,
                connected_for=now - peer.connected_at,
            )
            for peer in self._peers
        ]
        chosen = self._choker.choose(candidates, now, self._rng)
        for peer in self._peers:
            if peer in chosen:
                peer.session.unchoke()
            elif not peer.session.am_choking:
                self._choke(peer)

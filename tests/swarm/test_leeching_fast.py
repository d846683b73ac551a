"""The download side towards peers that speak the fast extension: rejects, and allowed pieces."""

from __future__ import annotations

import random

from p2pfs.formats import wire
from p2pfs.formats.allowed_fast import ALLOWED_FAST
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import MAX_RUN_LENGTH
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.events import (
    BlockArrived,
    Breached,
    PeerBitfield,
    PeerChoked,
    PeerRejected,
)
from p2pfs.swarm.leeching import (
    PATIENCE,
    REFUSED_FOR,
    REST_AFTER_REJECT,
    TURNED_AWAY,
    TURNED_AWAY_FOR,
    Leeching,
)
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.session import Session

BLOCKS = 4
PIECES = 12


class Download:
    """A `Leeching` of everything, and peers that say what a test wants."""

    def __init__(self, have: int = 0) -> None:
        self.geometry = Geometry(PIECES * BLOCKS * BLOCK_LENGTH, BLOCKS * BLOCK_LENGTH)
        self.have = Bitfield.of(PIECES, range(have))
        self.leeching = Leeching(self.geometry, self.have, random.Random(1), None)
        self.now = 0.0
        self.peers: list[Peer] = []

    def peer(self, says: bytes = wire.HAVE_ALL + wire.UNCHOKE) -> Peer:
        session = Session(self.geometry, self.now, fast=True)
        number = len(self.peers)
        peer = Peer(session, ("10.0.0.1", number), b"%020d" % number, self.now)
        self.peers.append(peer)
        self.leeching.joined(peer)
        self.says(peer, says)
        return peer

    def says(self, peer: Peer, data: bytes) -> None:
        for event in peer.session.receive_data(data, self.now):
            assert not isinstance(event, Breached), event
            if isinstance(event, PeerBitfield):
                self.leeching.bitfield(peer, event.has)
            elif isinstance(event, PeerChoked):
                self.leeching.choked(peer, event.lost)
            elif isinstance(event, PeerRejected):
                self.leeching.refused(peer, event.block, self.now)
            elif isinstance(event, BlockArrived):
                self.leeching.arrived(peer, event)
        self.leeching.top_up(peer, self.now)
        self.leeching.refill(self.now)

    def rejects(self, peer: Peer, *blocks: BlockRequest) -> None:
        self.says(peer, wire.encode_rejects(blocks))

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.25
            self.leeching.tick(self.now)


def owed(peer: Peer) -> list[BlockRequest]:
    return list(peer.session.outstanding)


def owed_pieces(peer: Peer) -> set[int]:
    return {block.piece for block in owed(peer)}


# -- rejects


def test_what_one_rejects_is_asked_of_another_at_once():
    download = Download()
    one = download.peer()
    blocks = owed(one)
    other = download.peer(wire.HAVE_ALL)
    download.rejects(one, *blocks)
    download.says(other, wire.UNCHOKE)

    assert blocks[0] in owed(other)
    assert not owed(one)


def test_who_rejects_without_choking_rests_and_is_not_asked_for_that_piece_for_a_while():
    download = Download()
    peer = download.peer()
    piece = owed(peer)[0].piece
    download.rejects(peer, *owed(peer))
    download.passes(REST_AFTER_REJECT / 2)
    assert not owed(peer)

    download.passes(REST_AFTER_REJECT)
    assert owed(peer)
    assert piece not in owed_pieces(peer)

    download.says(peer, wire.CHOKE)
    download.rejects(peer, *owed(peer))
    download.passes(REFUSED_FOR)
    download.says(peer, wire.UNCHOKE)
    assert owed(peer)


def test_a_peer_that_rejects_everything_is_asked_seldom():
    download = Download()
    peer = download.peer()
    asked = 0
    for _ in range(240):
        asked += len(owed(peer))
        download.rejects(peer, *owed(peer))
        download.passes(0.25)

    assert asked < 60 * 4 + 8


def of_our_dialect(download: Download, says: bytes = wire.HAVE_ALL) -> Peer:
    peer = download.peer(says)
    peer.session.run_length = MAX_RUN_LENGTH
    download.says(peer, wire.UNCHOKE)
    return peer


def test_one_of_ours_that_rejects_is_asked_for_something_else_at_once_and_for_that_soon_again():
    download = Download(have=PIECES - 3)
    peer = of_our_dialect(download)
    first = owed(peer)
    piece = first[0].piece
    download.rejects(peer, *(block for block in first if block.piece == piece))
    assert owed(peer)
    assert piece not in owed_pieces(peer)

    download.rejects(peer, *owed(peer))
    download.passes(TURNED_AWAY_FOR + 0.5)
    assert owed(peer)


def test_one_of_ours_that_rejects_everything_is_treated_like_any_other():
    download = Download()
    peer = of_our_dialect(download)
    peer.refused = dict.fromkeys(range(PIECES, PIECES + TURNED_AWAY), 1000.0)

    download.rejects(peer, *owed(peer))

    assert not owed(peer)
    assert peer.rests_until == REST_AFTER_REJECT


def test_after_a_choke_requests_are_owed_until_they_are_rejected():
    download = Download()
    peer = download.peer()
    blocks = owed(peer)
    download.says(peer, wire.CHOKE)
    assert owed(peer) == blocks

    download.rejects(peer, *blocks)
    assert not owed(peer)
    assert peer.refused == {}
    download.says(peer, wire.UNCHOKE)
    assert set(owed(peer)) == set(blocks)


def test_rejects_of_what_was_cancelled_since_change_nothing():
    download = Download()
    peer = download.peer()
    blocks = owed(peer)
    download.leeching.suspend()
    download.leeching.resume()
    download.leeching.refill(download.now)
    again = owed(peer)
    download.rejects(peer, *blocks)

    assert owed(peer) == again
    assert (peer.refused, peer.rests_until) == ({}, 0.0)


# -- pieces that may be asked for while choked

ALLOWED = wire.HAVE_ALL + wire.encode_allowed_fast([2, 5])


def test_a_newcomer_whom_nobody_serves_asks_for_what_it_is_allowed_after_a_while():
    download = Download()
    peer = download.peer(ALLOWED)
    download.passes(PATIENCE - 0.5)
    assert not owed(peer)

    download.passes(1)
    assert owed(peer)
    assert owed_pieces(peer) <= {2, 5}


def test_pieces_that_the_peer_does_not_have_are_not_asked_for_though_allowed():
    download = Download()
    peer = download.peer(wire.HAVE_NONE + wire.encode_have(2) + wire.encode_allowed_fast([5]))
    download.passes(PATIENCE + 1)

    assert not owed(peer)


def test_who_is_served_by_somebody_asks_nobody_that_chokes():
    download = Download()
    download.peer()
    choking = download.peer(ALLOWED)
    download.passes(PATIENCE + 1)

    assert not owed(choking)


def test_who_has_something_to_give_asks_nobody_that_chokes():
    download = Download(have=ALLOWED_FAST)
    peer = download.peer(wire.HAVE_ALL + wire.encode_allowed_fast([ALLOWED_FAST]))
    download.passes(PATIENCE + 1)

    assert not owed(peer)


def test_an_allowed_piece_that_is_rejected_is_not_asked_for_again():
    download = Download()
    peer = download.peer(ALLOWED)
    download.passes(PATIENCE + 1)
    refused = owed(peer)[0].piece
    download.rejects(peer, *(block for block in owed(peer) if block.piece == refused))
    download.passes(5)

    assert refused not in owed_pieces(peer)
    assert peer.session.allowed == {2, 5} - {refused}

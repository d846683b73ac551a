"""The upload side of a torrent: who may ask, and which request is answered next."""

from __future__ import annotations

import random

import pytest

from p2pfs.formats import wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.choker import RECHOKE_EVERY
from p2pfs.swarm.events import BlockCancelled, BlockRequested, InterestChanged
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.serving import KEEPS_TURN_FOR, Serving
from p2pfs.swarm.session import Session

PIECES = 8
GEOMETRY = Geometry(PIECES * 2 * BLOCK_LENGTH, 2 * BLOCK_LENGTH)


def always(piece: int) -> bool:
    return True


def block(piece: int, number: int = 0) -> BlockRequest:
    return GEOMETRY.block(piece, number)


class Upload:
    """A `Serving` of `have`, and peers that say what a test wants."""

    def __init__(self, have: str = "********", slots: int = 2, seed: int = 1) -> None:
        self.have = Bitfield.of(PIECES, (n for n, mark in enumerate(have) if mark == "*"))
        self.serving = Serving(self.have, slots, random.Random(seed))
        self.now = 0.0
        self.count = 0

    def peer(self, *, interested: bool = True) -> Peer:
        self.count += 1
        session = Session(GEOMETRY, self.now)
        peer = Peer(session, ("10.0.0.1", self.count), b"%020d" % self.count, self.now)
        self.serving.joined(peer)
        if interested:
            self.says(peer, wire.INTERESTED)
        return peer

    def peers(self, count: int) -> list[Peer]:
        return [self.peer() for _ in range(count)]

    def says(self, peer: Peer, data: bytes) -> None:
        for event in peer.session.receive_data(data, self.now):
            if isinstance(event, InterestChanged):
                self.serving.interest_changed(peer)
            elif isinstance(event, BlockRequested):
                self.serving.requested(peer, event.block)
            elif isinstance(event, BlockCancelled):
                self.serving.cancelled(peer, event.block)
        self.tick()

    def asks(self, peer: Peer, *blocks: BlockRequest) -> None:
        self.says(peer, wire.encode_requests(blocks))

    def tick(self, seconds: float = 0.0, *, seeding: bool = False) -> None:
        self.now += seconds
        self.serving.tick(self.now, seeding=seeding)

    def unchoked(self, peers: list[Peer]) -> list[Peer]:
        return [peer for peer in peers if not peer.session.am_choking]


def sent(peer: Peer) -> list[BlockRequest]:
    return [item for item in peer.session.data_to_send() if isinstance(item, BlockRequest)]


# -- who is unchoked


def test_whoever_is_interested_is_unchoked_at_once_while_a_slot_is_free():
    upload = Upload(slots=2)
    peers = upload.peers(3)

    assert upload.unchoked(peers) == peers[:2]


def test_slots_that_fall_free_go_to_any_of_those_who_wait():
    chosen = set()
    for seed in range(20):
        upload = Upload(slots=1, seed=seed)
        first, *others = upload.peers(5)
        upload.serving.left(first)
        upload.tick()
        chosen.add(others.index(*upload.unchoked(others)))

    assert chosen == set(range(4))


def test_a_slot_that_falls_free_is_given_away_at_once():
    upload = Upload(slots=2)
    peers = upload.peers(3)

    upload.says(peers[0], wire.NOT_INTERESTED)
    assert upload.unchoked(peers[1:]) == peers[1:]

    upload.serving.left(peers[1])
    fourth = upload.peer()
    upload.tick()
    assert not fourth.session.am_choking


def test_a_peer_that_becomes_interested_while_unchoked_brings_no_one_above_the_slots():
    upload = Upload(slots=2)
    waits = upload.peer(interested=False)
    upload.tick(RECHOKE_EVERY)
    assert not waits.session.am_choking
    others = upload.peers(2)

    upload.says(waits, wire.INTERESTED)

    assert len(upload.unchoked([waits, *others])) == 2


def test_the_best_uploaders_are_unchoked_while_downloading():
    upload = Upload(slots=2)
    peers = upload.peers(6)
    for _ in range(12):
        peers[4].down.add(10**6)
        for peer in peers:
            peer.down.sample(upload.now)
        upload.tick(1.0)

    assert peers[4] in upload.unchoked(peers)
    assert len(upload.unchoked(peers)) == 2


def test_the_best_downloaders_are_unchoked_while_seeding():
    upload = Upload(slots=2)
    peers = upload.peers(6)
    for _ in range(12):
        peers[3].up.add(10**6)
        peers[4].down.add(10**6)
        for peer in peers:
            peer.up.sample(upload.now)
            peer.down.sample(upload.now)
        upload.tick(1.0, seeding=True)

    assert peers[3] in upload.unchoked(peers)


def test_a_choked_peer_loses_its_queue():
    upload = Upload(slots=1)
    first = upload.peer()
    upload.asks(first, block(0), block(1))
    others = upload.peers(5)
    for _ in range(30):
        upload.tick(RECHOKE_EVERY)
        if first.session.am_choking:
            break

    assert first.session.am_choking
    assert not first.uploads
    assert len(upload.unchoked(others)) == 1


# -- what is sent


def test_a_request_is_answered_with_the_block():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, block(3, 1))

    assert upload.serving.serve(peer, always) == BLOCK_LENGTH
    assert sent(peer) == [block(3, 1)]
    assert peer.up.total == BLOCK_LENGTH
    assert upload.serving.serve(peer, always) == 0


def test_a_peer_is_sent_as_many_blocks_of_a_piece_as_there_is_room_for():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, block(3, 0), block(3, 1), block(5, 0), block(5, 1))

    assert upload.serving.serve(peer, always, BLOCK_LENGTH + 1) == 2 * BLOCK_LENGTH
    assert upload.serving.serve(peer, always, BLOCK_LENGTH) == BLOCK_LENGTH
    assert upload.serving.serve(peer, always, 9 * BLOCK_LENGTH) == BLOCK_LENGTH
    assert sent(peer) == [block(3, 0), block(3, 1), block(5, 0), block(5, 1)]
    assert peer.up.total == 4 * BLOCK_LENGTH


def test_pieces_that_we_lack_are_not_served():
    upload = Upload(have="*       ")
    peer = upload.peer()
    upload.asks(peer, block(1), block(0))

    assert upload.serving.serve(peer, always) == BLOCK_LENGTH
    assert upload.serving.serve(peer, always) == 0
    assert sent(peer) == [block(0)]


def test_requests_of_a_choked_peer_are_not_kept():
    upload = Upload(slots=1)
    _, choked = upload.peers(2)
    upload.asks(choked, block(0))

    assert not choked.uploads


def test_a_cancelled_request_is_not_answered():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, block(0), block(1))
    upload.says(peer, wire.encode_cancels([block(0)]))

    upload.serving.serve(peer, always)
    assert upload.serving.serve(peer, always) == 0
    assert sent(peer) == [block(1)]


def test_a_peer_that_is_no_longer_interested_loses_its_queue():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, block(0))
    upload.says(peer, wire.NOT_INTERESTED)

    assert upload.serving.serve(peer, always) == 0


def test_a_piece_that_was_lost_is_not_sent_to_those_who_asked_for_it():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, block(0, 0), block(0, 1), block(1))
    upload.have.discard(0)
    upload.serving.lost(0)

    assert upload.serving.serve(peer, always) == BLOCK_LENGTH
    assert sent(peer) == [block(1)]
    assert not peer.uploads


def both_pieces() -> list[BlockRequest]:
    return [block(piece, number) for piece in range(2) for number in range(2)]


def test_two_that_ask_for_the_same_get_different_pieces_first():
    upload = Upload(slots=4)
    one, two = upload.peers(2)
    upload.asks(one, *both_pieces())
    upload.asks(two, *both_pieces())

    for _ in range(4):
        assert upload.serving.serve_best([one, two], always, 0.0)

    given = [{block.piece for block in sent(peer)} for peer in (one, two)]
    assert given in ([{0}, {1}], [{1}, {0}])


def test_of_equals_the_one_served_longest_ago_is_next():
    upload = Upload(slots=4)
    peers = upload.peers(3)
    for number, peer in enumerate(peers):
        upload.asks(peer, block(2 * number), block(2 * number + 1))

    turns = [upload.serving.serve_best(peers, always, 0.0)[0] for _ in range(6)]

    assert turns == peers * 2


@pytest.mark.parametrize("have", ["********", "****    "])
def test_a_piece_that_was_begun_for_one_is_finished_before_the_next_ones_turn(have):
    upload = Upload(have, slots=4)
    one, two = upload.peers(2)
    upload.asks(one, block(0, 0), block(0, 1), block(1))
    upload.asks(two, block(2, 0), block(2, 1))

    turns = [upload.serving.serve_best([one, two], always, 0.0)[0] for _ in range(5)]

    assert turns == [one, one, two, two, one]


def test_a_piece_that_takes_long_keeps_the_others_waiting_for_a_while_only():
    upload = Upload(slots=4)
    one, two = upload.peers(2)
    upload.asks(one, block(0, 0), block(0, 1))
    upload.asks(two, block(1))

    assert upload.serving.serve_best([one, two], always, 0.0)[0] is one
    assert upload.serving.serve_best([one, two], always, KEEPS_TURN_FOR)[0] is two


def test_a_turn_ends_before_the_block_that_would_take_it_beyond_its_time():
    upload = Upload(slots=4)
    one, two = upload.peers(2)
    quarter = BLOCK_LENGTH // 4
    upload.asks(one, *(BlockRequest(0, number * quarter, quarter) for number in range(4)))
    upload.asks(two, block(1))

    turns = [
        upload.serving.serve_best([one, two], always, number * 0.4 * KEEPS_TURN_FOR)[0]
        for number in range(3)
    ]

    assert turns == [one, one, two]


def test_what_was_given_to_a_peer_that_left_is_given_to_others_as_if_it_were_new():
    upload = Upload(slots=4)
    leaves, stays, asks = upload.peers(3)
    for peer, piece in ((leaves, 1), (stays, 0)):
        upload.asks(peer, block(piece))
        upload.serving.serve(peer, always)
    upload.serving.left(leaves)
    upload.asks(asks, block(0), block(1))

    upload.serving.serve(asks, always)

    assert sent(asks) == [block(1)]


def test_nothing_is_sent_while_nobody_asks_or_the_content_is_not_at_hand():
    upload = Upload()
    peer = upload.peer()
    assert upload.serving.serve_best([peer], always, 0.0) is None
    assert upload.serving.serve_best([], always, 0.0) is None

    upload.asks(peer, block(0))
    assert upload.serving.serve_best([peer], lambda piece: False, 0.0) is None
    assert upload.serving.serve(peer, lambda piece: False) == 0
    assert upload.serving.serve_best([peer], always, 0.0) == (peer, BLOCK_LENGTH)

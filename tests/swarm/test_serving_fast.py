"""The upload side towards peers that speak the fast extension: one answer to each request."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.formats import wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import MAX_RUN_LENGTH
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.choker import RECHOKE_EVERY
from p2pfs.swarm.events import BlockCancelled, BlockRequested, InterestChanged, PeerBitfield
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.serving import LARGE_ENOUGH, Serving
from p2pfs.swarm.session import Session
from p2pfs.swarm.uploads import MAX_QUEUED
from tests.swarm.link import output

GRANTED = [3, 5, 7]
FEW = wire.encode_have(1)


def always(piece: int) -> bool:
    return True


class Upload:
    """A `Serving` of everything, and peers that say what a test wants."""

    def __init__(self, pieces: int = LARGE_ENOUGH, slots: int = 1, blocks: int = 2) -> None:
        self.geometry = Geometry(pieces * blocks * BLOCK_LENGTH, blocks * BLOCK_LENGTH)
        self.have = Bitfield.full(pieces)
        self.serving = Serving(self.have, slots, random.Random(1))
        self.peers: list[Peer] = []
        self.now = 0.0

    def peer(self, says: bytes = wire.HAVE_NONE + wire.INTERESTED, *, fast: bool = True) -> Peer:
        session = Session(self.geometry, self.now, fast=fast)
        number = len(self.peers)
        address = ("10.0.0.1", number)
        peer = Peer(session, address, b"%020d" % number, self.now, fast_set=GRANTED)
        self.peers.append(peer)
        self.serving.joined(peer)
        self.says(peer, says)
        return peer

    def says(self, peer: Peer, data: bytes) -> None:
        for event in peer.session.receive_data(data, self.now):
            if isinstance(event, PeerBitfield):
                self.serving.greeted(peer)
            elif isinstance(event, InterestChanged):
                self.serving.interest_changed(peer)
            elif isinstance(event, BlockRequested):
                self.serving.requested(peer, event.block)
            elif isinstance(event, BlockCancelled):
                self.serving.cancelled(peer, event.block)
        self.serving.tick(self.now, seeding=True)

    def asks(self, peer: Peer, *blocks: BlockRequest) -> None:
        self.says(peer, wire.encode_requests(blocks))

    def block(self, piece: int, number: int = 0) -> BlockRequest:
        return self.geometry.block(piece, number)

    def told(self, peer: Peer) -> list[wire.Message]:
        """What goes out to it now."""
        decoder = wire.Decoder((self.geometry.piece_count + 7) // 8, fast=peer.session.fast)
        return decoder.feed(output(peer.session, self.now))

    def answers(self, peer: Peer) -> tuple[list[BlockRequest], list[BlockRequest]]:
        """The blocks and the rejects that go out to it now."""
        told = self.told(peer)
        blocks = [
            BlockRequest(m.piece, m.begin, len(m.data)) for m in told if type(m) is wire.Block
        ]
        return blocks, [m.block for m in told if type(m) is wire.Reject]

    def serve_all(self, peer: Peer) -> None:
        while self.serving.serve(peer, always):
            pass

    def serve_best_all(self, *peers: Peer) -> None:
        while self.serving.serve_best(peers, always, self.now):
            pass


# -- pieces for the choked


def test_whoever_starts_is_granted_its_set():
    upload = Upload()
    told = upload.told(upload.peer())

    assert [message.piece for message in told if type(message) is wire.AllowedFast] == GRANTED


def test_who_has_enough_already_and_who_cannot_hear_it_are_granted_nothing():
    upload = Upload()
    has = Bitfield.of(LARGE_ENOUGH, range(10)).to_bytes()
    assert upload.peer(wire.encode_bitfield(has)).session.granted == {}
    assert upload.peer(wire.encode_bitfield(bytes(13)), fast=False).session.granted == {}


def test_of_a_small_torrent_nothing_is_given_away():
    assert Upload(pieces=LARGE_ENOUGH - 1).peer().session.granted == {}


def test_a_choked_peer_gets_what_it_was_granted_and_a_reject_of_the_rest():
    upload = Upload(slots=1)
    upload.peer()
    choked = upload.peer()
    assert choked.session.am_choking

    upload.asks(choked, upload.block(3), upload.block(4), upload.block(5, 1))
    upload.serve_all(choked)

    assert upload.answers(choked) == ([upload.block(3), upload.block(5, 1)], [upload.block(4)])


# -- rejects


def test_a_choke_rejects_what_was_asked_for_but_what_was_granted():
    upload = Upload(slots=1)
    peer = upload.peer()
    upload.asks(peer, upload.block(3), upload.block(4), upload.block(5))
    upload.serving._choke(peer)

    assert upload.answers(peer) == ([], [upload.block(4)])
    upload.serve_all(peer)
    assert upload.answers(peer) == ([upload.block(3), upload.block(5)], [])


def test_a_cancel_is_answered_by_a_reject_unless_the_block_is_on_its_way():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, upload.block(1), upload.block(2))
    upload.serving.serve(peer, always)
    upload.says(peer, wire.encode_cancels([upload.block(1), upload.block(2)]))

    assert upload.answers(peer) == ([upload.block(1)], [upload.block(2)])


def test_what_nobody_wants_any_more_is_rejected():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, upload.block(1))
    upload.says(peer, wire.NOT_INTERESTED)

    assert upload.answers(peer) == ([], [upload.block(1)])


def test_requests_for_a_piece_that_was_lost_are_rejected_before_and_after():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, upload.block(1))
    upload.have.discard(1)
    upload.serving.lost(1)
    upload.asks(peer, upload.block(1, 1))

    assert upload.answers(peer) == ([], [upload.block(1), upload.block(1, 1)])


def test_a_repetition_is_rejected_and_the_first_one_answered():
    upload = Upload()
    peer = upload.peer()
    upload.asks(peer, upload.block(1), upload.block(1))
    upload.serve_all(peer)

    assert upload.answers(peer) == ([upload.block(1)], [upload.block(1)])


def test_requests_beyond_the_queue_are_rejected():
    upload = Upload(pieces=MAX_QUEUED + 3, blocks=1)
    peer = upload.peer()
    every = [upload.block(piece) for piece in range(MAX_QUEUED + 3)]
    upload.asks(peer, *every)

    assert upload.answers(peer) == ([], every[MAX_QUEUED:])


STEPS = ["ask", "cancel", "choke", "rechoke", "serve", "lose", "uninterested", "interested"]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=60))
@settings(max_examples=150, deadline=None)
def test_each_request_gets_one_answer_whatever_happens(steps):
    upload = Upload(slots=1)
    peer, other = upload.peer(), upload.peer()
    asked: Counter[BlockRequest] = Counter()
    answered: Counter[BlockRequest] = Counter()
    for step, piece in steps:
        if step == "ask":
            upload.asks(peer, upload.block(piece))
            asked[upload.block(piece)] += 1
        elif step == "cancel":
            upload.says(peer, wire.encode_cancels([upload.block(piece)]))
        elif step == "choke" and not peer.session.am_choking:
            upload.serving._choke(peer)
        elif step == "rechoke":
            upload.now += RECHOKE_EVERY
            upload.says(other, wire.KEEP_ALIVE)
        elif step == "serve":
            upload.serving.serve(peer, always)
        elif step == "lose" and upload.have.discard(piece):
            upload.serving.lost(piece)
        elif step == "uninterested":
            upload.says(peer, wire.NOT_INTERESTED)
        elif step == "interested":
            upload.says(peer, wire.INTERESTED)
        for answers in upload.answers(peer):
            answered.update(answers)
        assert answered <= asked
    upload.serve_all(peer)
    for answers in upload.answers(peer):
        answered.update(answers)

    assert answered == asked


# -- while what nobody had goes out


def of_our_dialect(upload: Upload, says: bytes = wire.HAVE_NONE + wire.INTERESTED) -> Peer:
    peer = upload.peer(says)
    peer.session.run_length = MAX_RUN_LENGTH
    return peer


def test_who_asks_a_seeder_for_what_another_got_is_sent_there_while_it_has_new_pieces_to_give():
    upload = Upload(slots=4)
    one, two = of_our_dialect(upload), of_our_dialect(upload)
    upload.asks(one, upload.block(1), upload.block(2))
    upload.asks(two, upload.block(1), upload.block(3))
    upload.told(one)
    upload.told(two)

    turns = [upload.serving.serve_best([one, two], always, 0.0)[0] for _ in range(3)]

    assert turns == [one, two, one]
    assert upload.answers(one) == ([upload.block(1), upload.block(2)], [])
    assert upload.answers(two) == ([upload.block(3)], [upload.block(1)])


def test_a_seeder_with_nothing_new_to_give_answers_everybody():
    upload = Upload(slots=4)
    one, two = of_our_dialect(upload), of_our_dialect(upload)
    upload.asks(one, upload.block(1))
    upload.serve_all(one)
    upload.asks(two, upload.block(1))
    upload.told(two)

    upload.serve_all(two)

    assert upload.answers(two) == ([upload.block(1)], [])


def test_foreign_clients_are_never_sent_away():
    upload = Upload(slots=4)
    one, foreign = of_our_dialect(upload), upload.peer()
    upload.asks(one, upload.block(1), upload.block(2))
    upload.asks(foreign, upload.block(1))
    upload.told(foreign)

    upload.serve_best_all(one, foreign)

    assert upload.answers(foreign) == ([upload.block(1)], [])


def test_who_does_not_have_everything_sends_nobody_away():
    upload = Upload(slots=4)
    upload.have.discard(0)
    one, two = of_our_dialect(upload), of_our_dialect(upload)
    upload.asks(one, upload.block(1), upload.block(2))
    upload.asks(two, upload.block(1))
    upload.told(two)

    upload.serve_best_all(one, two)

    assert upload.answers(two) == ([upload.block(1)], [])


def test_who_is_choked_and_was_granted_a_piece_is_not_sent_away_from_it():
    upload = Upload(slots=2)
    one, two, granted = (of_our_dialect(upload) for _ in range(3))
    assert granted.session.am_choking
    upload.asks(one, upload.block(GRANTED[0]))
    upload.serve_all(one)
    upload.asks(granted, upload.block(GRANTED[0]))
    upload.asks(two, upload.block(0))
    upload.told(granted)

    upload.serve_best_all(two)
    upload.serve_all(granted)

    assert upload.answers(granted) == ([upload.block(GRANTED[0])], [])


def test_without_a_limit_a_seeder_sends_nobody_away():
    upload = Upload(slots=4)
    one, two = of_our_dialect(upload), of_our_dialect(upload)
    upload.asks(one, upload.block(1))
    upload.serve_all(one)
    upload.asks(one, upload.block(2))
    upload.asks(two, upload.block(1))
    upload.told(two)

    upload.serve_all(one)
    upload.serve_all(two)

    assert upload.answers(two) == ([upload.block(1)], [])


def test_who_has_been_given_much_still_gets_all_of_a_piece_in_one_turn():
    upload = Upload(slots=4)
    one, two = of_our_dialect(upload), of_our_dialect(upload)
    for peer, pieces in ((one, range(20)), (two, range(20, 40))):
        upload.asks(peer, *(upload.block(piece, number) for piece in pieces for number in range(2)))

    turns = [upload.serving.serve_best([one, two], always, 0.0)[0] for _ in range(80)]

    assert turns[::2] == turns[1::2]

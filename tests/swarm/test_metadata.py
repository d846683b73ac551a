"""Metadata from peers of every kind: honest, slow, silent and lying ones, on a clock of our own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from p2pfs.errors import WireError
from p2pfs.formats import extension, ut_metadata, wire
from p2pfs.formats.extension import UT_METADATA, ExtendedHandshake
from p2pfs.formats.ut_metadata import MAX_METADATA, PIECE_LENGTH, Data, Request
from p2pfs.geometry import TorrentId
from p2pfs.swarm.attempts import MAX_HELD
from p2pfs.swarm.bare_session import BareSession
from p2pfs.swarm.metadata import MAX_LAPSES, UNASKED, WINDOW, MetadataFetching
from p2pfs.swarm.metadata_serving import MAX_REJECTED
from p2pfs.swarm.peer import Peer
from tests.swarm.link import output

METADATA = random.Random(9).randbytes(5 * PIECE_LENGTH + 1234)
SIZE = len(METADATA)
STEP = 0.25

Answer = Callable[[int], bytes | None]
"""A piece that it was asked for, to the payload that it answers, if it does."""


def part(metadata: bytes, piece: int) -> bytes:
    return metadata[piece * PIECE_LENGTH : (piece + 1) * PIECE_LENGTH]


def giving(metadata: bytes = METADATA, total: int | None = None) -> Answer:
    total = len(metadata) if total is None else total
    return lambda piece: ut_metadata.encode_data(piece, total, part(metadata, piece))


def rejecting(piece: int) -> bytes:
    return ut_metadata.encode_reject(piece)


def silent(piece: int) -> None:
    return None


def wrong(size: int = SIZE, seed: int = 1) -> Answer:
    return giving(random.Random(seed).randbytes(size))


def spoiling(*pieces: int) -> Answer:
    """Honest but for these pieces."""
    spoiled = bytearray(METADATA)
    for piece in pieces:
        spoiled[piece * PIECE_LENGTH] ^= 1
    return giving(bytes(spoiled))


class Room:
    """Peers around one who wants the metadata; time goes on in steps."""

    def __init__(self, metadata: bytes = METADATA) -> None:
        self.fetching = MetadataFetching(TorrentId(hashlib.sha1(metadata).digest()))
        self.now = 100.0
        self.asked: dict[Peer, list[int]] = {}
        self._answers: dict[Peer, Answer] = {}
        self._decoders: dict[Peer, wire.Decoder] = {}

    def enter(self, answer: Answer, size: int | None = SIZE, *, offers: bool = True) -> Peer:
        """A peer that claims `size` (None: says nothing of it)."""
        session = BareSession(self.now, extended=True)
        peer = Peer(session, ("10.0.0.1", 1000 + len(self._answers)), b"x" * 20, self.now)
        self._answers[peer], self._decoders[peer], self.asked[peer] = answer, wire.Decoder(0), []
        self.fetching.joined(peer)
        self.introduce(peer, size or 0, offers=offers)
        return peer

    def introduce(self, peer: Peer, size: int, *, offers: bool = True) -> None:
        messages = {UT_METADATA: 7} if offers else {}
        payload = extension.encode(ExtendedHandshake(messages=messages, metadata_size=size))
        peer.session.receive_data(wire.encode_extended(0, payload), self.now)
        self.fetching.introduced(peer, self.now)

    def leave(self, peer: Peer) -> None:
        del self._answers[peer]
        self.fetching.left(peer, self.now)

    def convicted(self) -> list[Peer]:
        """Who was convicted, and has to go."""
        found = [peer for peer, _ in self.fetching.convicted]
        for peer in found:
            self._answers.pop(peer, None)
        return found

    def requests(self, peer: Peer) -> list[int]:
        """The pieces that the peer is asked for now."""
        found = []
        for message in self._decoders[peer].feed(output(peer.session, self.now)):
            assert isinstance(message, wire.Extended)
            assert message.id == 7
            request = ut_metadata.parse(message.payload)
            if isinstance(request, Request):
                found.append(request.piece)
        self.asked[peer] += found
        return found

    def step(self) -> None:
        """Everybody answers what it was asked; a moment passes."""
        for peer in list(self._answers):
            for piece in self.requests(peer):
                payload = self._answers[peer](piece) if peer in self._answers else None
                if payload is not None:
                    self.fetching.heard(peer, payload, self.now)
        self.convicted()
        self.now += STEP
        self.fetching.tick(self.now)

    def run(self, seconds: float = 60.0) -> bytes | None:
        """Until the metadata is there, or so long."""
        end = self.now + seconds
        while self.fetching.result is None and self.now < end:
            self.step()
        return self.fetching.result


@pytest.fixture
def room() -> Room:
    return Room()


# -- honest peers


def test_metadata_comes_from_one_peer(room):
    peer = room.enter(giving())

    assert room.run() == METADATA
    assert sorted(room.asked[peer]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [1, PIECE_LENGTH - 1, PIECE_LENGTH, PIECE_LENGTH + 1])
def test_metadata_of_any_size_is_put_together(size):
    metadata = METADATA[:size]
    room = Room(metadata)
    room.enter(giving(metadata), size)

    assert room.run() == metadata


def test_several_peers_share_the_work(room):
    peers = [room.enter(giving()) for _ in range(3)]

    assert room.run() == METADATA
    assert sorted(piece for peer in peers for piece in room.asked[peer]) == [0, 1, 2, 3, 4, 5]
    assert all(room.asked[peer] for peer in peers[:2])


def test_a_peer_is_asked_for_one_piece_and_then_for_a_window_of_them(room):
    peer = room.enter(silent)
    assert room.requests(peer) == [0]

    room.fetching.heard(peer, giving()(0), room.now)

    assert len(room.requests(peer)) == WINDOW


def test_a_peer_without_the_exchange_is_not_asked(room):
    peer = room.enter(giving(), offers=False)

    assert room.run(5) is None
    assert room.asked[peer] == []
    assert room.fetching.sources == 0


def test_a_peer_that_offers_it_later_is_asked_then(room):
    peer = room.enter(giving(), None, offers=False)
    room.run(1)

    room.introduce(peer, SIZE)

    assert room.run() == METADATA


def test_a_peer_that_does_not_tell_the_size_tells_it_with_its_data(room):
    room.enter(giving(), None)

    assert room.run() == METADATA


def test_a_peer_that_has_nothing_yet_is_asked_again_later(room):
    have = []
    room.enter(lambda piece: giving()(piece) if have else rejecting(piece), None)
    room.run(20)
    assert room.fetching.result is None

    have.append(True)

    assert room.run(60) == METADATA


def test_the_work_of_one_who_leaves_is_done_by_others(room):
    first = room.enter(silent)
    room.step()
    other = room.enter(giving())
    room.leave(first)

    assert room.run(2) == METADATA
    assert sorted(room.asked[other]) == [0, 1, 2, 3, 4, 5]


def test_we_give_nothing_before_we_have_it(room):
    peer = room.enter(silent)
    room.requests(peer)

    room.fetching.heard(peer, ut_metadata.encode_request(3), room.now)

    [message] = wire.Decoder(0).feed(output(peer.session))
    assert message.payload == ut_metadata.encode_reject(3)


# -- peers that are late, or do not want


def test_who_goes_on_asking_for_what_we_do_not_have_is_closed_at_last(room):
    peer = room.enter(silent)
    for _ in range(MAX_REJECTED):
        room.fetching.heard(peer, ut_metadata.encode_request(0), room.now)
    with pytest.raises(WireError, match="too many requests"):
        room.fetching.heard(peer, ut_metadata.encode_request(0), room.now)


def test_what_a_silent_peer_owes_is_asked_of_one_with_nothing_to_do(room):
    room.enter(silent)
    room.enter(giving())

    assert room.run(5) == METADATA


def test_a_silent_peer_is_left_alone_longer_and_longer(room):
    peer = room.enter(silent)
    room.run(120)

    assert 3 <= len(room.asked[peer]) <= 6


def test_data_that_comes_late_is_taken_all_the_same(room):
    peer = room.enter(silent)
    asked = room.requests(peer)
    room.run(12)
    assert room.fetching.done == (0, SIZE)

    for piece in asked:
        room.fetching.heard(peer, giving()(piece), room.now)

    assert room.fetching.done == (PIECE_LENGTH, SIZE)


def test_a_peer_that_rejects_is_asked_again_after_others_were(room):
    rejected = []

    def once(piece: int) -> bytes:
        if len(rejected) < 2:
            rejected.append(piece)
            return rejecting(piece)
        return giving()(piece)

    room.enter(once)

    assert room.run(30) == METADATA


# -- peers that lie


def test_who_gave_all_of_wrong_metadata_is_convicted_and_others_are_believed(room):
    liar = room.enter(wrong())
    room.run(1)
    assert room.convicted() == [liar]

    room.enter(giving())

    assert room.run() == METADATA
    assert room.convicted() == [liar]


def test_one_wrong_piece_among_those_of_several_costs_a_round_and_the_liar_its_place(room):
    liar = room.enter(spoiling(*range(6)))
    honest = [room.enter(giving()) for _ in range(3)]

    assert room.run() == METADATA
    assert set(room.convicted()) == {liar}
    assert all(sorted(set(room.asked[peer])) <= [0, 1, 2, 3, 4, 5] for peer in honest)


def test_what_a_peer_gave_before_is_not_asked_of_it_again(room):
    room.enter(spoiling(*range(6)))
    honest = room.enter(giving())

    assert room.run() == METADATA
    assert sorted(room.asked[honest]) == [0, 1, 2, 3, 4, 5]


def test_many_liars_of_the_right_size_do_not_keep_one_honest_peer_from_being_heard(room):
    liars = [room.enter(wrong(seed=number)) for number in range(20)]
    room.enter(giving())

    assert room.run() == METADATA
    assert set(room.convicted()) <= set(liars)


@pytest.mark.parametrize("size", [1, PIECE_LENGTH, SIZE - 1, SIZE + 1, 3_000_000, MAX_METADATA])
def test_another_size_claimed_by_a_liar_does_not_spoil_the_right_one(room, size):
    liar = room.enter(wrong(size), size)
    room.enter(giving())
    room.enter(silent, size)

    assert room.run() == METADATA
    assert set(room.convicted()) <= {liar}


def test_liars_that_never_answer_and_claim_all_there_is_room_for_have_their_turn_and_no_more(room):
    for number in range(12):
        room.enter(silent, MAX_METADATA - number)
    room.enter(giving())

    assert room.run(300) == METADATA


def test_liars_that_trickle_do_not_keep_the_honest_one_waiting_for_ever():
    metadata = random.Random(3).randbytes(MAX_METADATA)
    room = Room(metadata)
    for number in range(6):
        size, sent = MAX_METADATA - 1 - number, [0.0]

        def trickle(piece: int, size: int = size, sent: list[float] = sent) -> bytes | None:
            if room.now - sent[0] < 5:
                return None
            sent[0] = room.now
            return ut_metadata.encode_data(piece, size, bytes(PIECE_LENGTH))

        room.enter(trickle, size)
    room.enter(giving(metadata), len(metadata))

    assert room.run(600) == metadata


@pytest.mark.parametrize("size", [MAX_METADATA + 1, 2**31, 2**40])
def test_a_huge_size_is_not_asked_for(room, size):
    peer = room.enter(giving(), size)

    assert room.run(30) is None
    assert room.asked[peer] == []
    assert room.fetching.too_large == size


def test_a_huge_size_that_comes_with_the_data_is_none(room):
    peer = room.enter(giving(total=2**39), None)
    room.run(30)

    assert room.fetching.result is None
    assert len(room.asked[peer]) == 1


def test_what_is_held_is_bounded_whatever_is_claimed():
    room = Room()
    for number in range(30):
        size = MAX_METADATA - number

        def endless(piece: int, size: int = size) -> bytes:
            length = min(PIECE_LENGTH, size - piece * PIECE_LENGTH)
            return ut_metadata.encode_data(piece, size, bytes(length))

        room.enter(endless, size)
    most = 0
    for _ in range(200):
        room.step()
        most = max(most, room.fetching.held)

    assert 5_000_000 < most <= MAX_HELD


def test_a_piece_of_a_wrong_length_convicts_by_its_own_word(room):
    liar = room.enter(lambda piece: ut_metadata.encode_data(piece, SIZE, b"short"))
    room.step()

    assert room.convicted() == [liar]


def test_a_peer_whose_data_tells_another_size_than_its_handshake_is_believed_once(room):
    room.enter(giving(), SIZE + 5)

    assert room.run() == METADATA
    assert room.convicted() == []


def test_a_wrong_size_in_the_data_does_no_harm(room):
    room.enter(giving(total=99))

    assert room.run() == METADATA


def test_pieces_that_nobody_asked_for_are_not_taken_and_end_it_at_last(room):
    peer = room.enter(silent)
    for _ in range(UNASKED):
        room.fetching.heard(peer, ut_metadata.encode_data(5, SIZE, part(METADATA, 5)), room.now)
    assert room.fetching.done[0] == 0

    with pytest.raises(WireError, match="nobody asked for"):
        room.fetching.heard(peer, ut_metadata.encode_data(5, SIZE, part(METADATA, 5)), room.now)


def test_junk_ends_the_connection(room):
    peer = room.enter(silent)

    with pytest.raises(WireError):
        room.fetching.heard(peer, b"junk", room.now)


def test_a_peer_that_changes_its_claim_all_the_time_gains_nothing(room):
    liar = room.enter(silent)
    room.enter(giving())
    for size in range(1000, 1500):
        room.introduce(liar, size)

    assert room.run() == METADATA


@pytest.mark.parametrize("seed", range(20))
def test_one_honest_peer_among_all_kinds_is_enough(seed):
    rng = random.Random(seed)
    room = Room()
    kinds: list[tuple[Answer, int | None]] = [
        (wrong(seed=seed), SIZE),
        (spoiling(rng.randrange(6)), SIZE),
        (silent, SIZE),
        (rejecting, SIZE),
        (wrong(1000), 1000),
        (silent, MAX_METADATA),
        (giving(total=7), 7),
        (lambda piece: ut_metadata.encode_data(piece, SIZE, b"x"), SIZE),
        (giving(total=2**35), None),
    ]
    for answer, size in rng.choices(kinds, k=12):
        room.enter(answer, size)
        if rng.random() < 0.3:
            room.step()
    honest = room.enter(giving())

    assert room.run(600) == METADATA
    assert honest not in room.convicted()


def test_after_the_end_nothing_is_asked_any_more(room):
    room.enter(giving())
    room.run()
    later = room.enter(giving())
    room.step()

    assert room.asked[later] == []
    room.fetching.heard(later, ut_metadata.encode_data(*Data(0, SIZE, b"x")), room.now)
    room.leave(later)


def test_who_was_never_asked_is_asked_before_those_who_failed_to_answer():
    room = Room(METADATA[:100])
    deaf = [room.enter(silent, 100) for _ in range(12)]
    while all(len(asked) < 2 for asked in room.asked.values()):
        room.step()

    assert all(room.asked[peer] for peer in deaf)


def test_it_is_known_who_failed_to_give_what_it_was_asked_for():
    room = Room()
    deaf = room.enter(silent)
    useless = room.enter(silent, offers=False)
    assert room.fetching.lapses(deaf) == 0
    room.run(30.0)
    honest = room.enter(giving())
    room.run()

    assert room.fetching.lapses(deaf) > 1
    assert room.fetching.lapses(honest) == 0
    assert room.fetching.lapses(useless) == MAX_LAPSES

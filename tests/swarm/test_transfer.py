"""One torrent's coordinator: two transfers joined in memory, each doing what the net floor does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from p2pfs.formats import extension, wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import ExtendedHandshake
from p2pfs.geometry import BLOCK_LENGTH, Geometry, blocks_in
from p2pfs.swarm.effects import Close, Completed, Effect, Forget, Heard, Learned, Store, Verify
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.pipeline import SNUB_AFTER
from p2pfs.swarm.session import SILENCE_LIMIT, Session
from p2pfs.swarm.transfer import Transfer
from tests.swarm.link import output, pattern

GEOMETRY = Geometry(6 * 4 * BLOCK_LENGTH - 77, 4 * BLOCK_LENGTH)
HELLO = ExtendedHandshake(client="p2pfs 0.1", run_length=2 * BLOCK_LENGTH)


def pieces(drawn: str) -> Bitfield:
    return Bitfield.of(len(drawn), (n for n, mark in enumerate(drawn) if mark == "*"))


class Side:
    """A `Transfer` with the hands that it lacks: it stores, verifies and closes."""

    def __init__(self, have: str, wanted: str | None = None) -> None:
        self.transfer = Transfer(
            GEOMETRY,
            pieces(have),
            random.Random(1),
            wanted=None if wanted is None else pieces(wanted),
        )
        self.seen: list[Effect] = []
        self.stored: dict[int, bytearray] = {}

    def join(
        self,
        number: int = 1,
        now: float = 0.0,
        hello: ExtendedHandshake = HELLO,
        *,
        fast: bool = False,
    ) -> Peer:
        session = Session(GEOMETRY, now, extended=True, fast=fast)
        peer = Peer(session, ("10.0.0.1", number), b"%020d" % number, now)
        self.transfer.join(peer, hello)
        return peer

    def hear(self, peer: Peer, data: bytes, now: float) -> None:
        self.transfer.receive(peer, peer.session.receive_data(data, now), now)
        self.carry_out(now)

    def carry_out(self, now: float) -> None:
        for effect in self.transfer.take_effects():
            self.seen.append(effect)
            if isinstance(effect, Store):
                block, data = effect
                buffer = self.stored.setdefault(
                    block.piece, bytearray(GEOMETRY.piece_size(block.piece))
                )
                buffer[block.begin : block.begin + block.length] = data
            elif isinstance(effect, Verify):
                self.transfer.verified(effect.piece, (), now)
                self.carry_out(now)
            elif isinstance(effect, Close) and effect.peer in self.transfer.peers:
                self.transfer.leave(effect.peer, now)

    def effects(self, kind: type) -> list[Effect]:
        return [effect for effect in self.seen if isinstance(effect, kind)]


class Meeting:
    """Two sides that are connected, and a clock that moves when they have nothing to say."""

    def __init__(self, one: Side, two: Side, *, cut: int = 1 << 30) -> None:
        self.sides = (one, two)
        self.peers = (one.join(), two.join())
        self.now = 0.0
        self._cut = cut

    def talk(self, seconds: float = 1.0) -> None:
        end = self.now + seconds
        while self.now < end:
            while any([self._pass_on(0, 1), self._pass_on(1, 0)]):
                pass
            self.now += 0.25
            for side in self.sides:
                side.transfer.tick(self.now)
                side.carry_out(self.now)

    def _pass_on(self, sender: int, receiver: int) -> bool:
        here, there = self.sides[sender], self.sides[receiver]
        peer = self.peers[sender]
        if peer not in here.transfer.peers or self.peers[receiver] not in there.transfer.peers:
            return False
        while here.transfer.serving.serve(peer, lambda piece: True):
            pass
        data = output(peer.session, self.now)
        for start in range(0, len(data), self._cut):
            if self.peers[receiver] in there.transfer.peers:
                there.hear(self.peers[receiver], data[start : start + self._cut], self.now)
        return bool(data)


# -- two of them


@pytest.mark.parametrize("cut", [1 << 30, 1000], ids=["whole", "in small cuts"])
def test_everything_gets_from_the_seeder_to_the_leecher(cut):
    seeder, leecher = Side("******", wanted="      "), Side("      ")
    Meeting(seeder, leecher, cut=cut).talk()

    assert leecher.transfer.finished
    assert leecher.transfer.have.complete
    assert leecher.effects(Completed) == [Completed()]
    for piece in range(6):
        blocks = b"".join(
            pattern(effect.block)
            for effect in sorted(leecher.effects(Store), key=lambda effect: effect.block)
            if effect.block.piece == piece
        )
        assert leecher.stored[piece] == blocks
    assert leecher.transfer.leeching.wasted == 0


def test_two_that_lack_what_the_other_has_complete_each_other():
    one, two = Side("***   "), Side("   ***")
    Meeting(one, two).talk()

    assert one.transfer.have.complete
    assert two.transfer.have.complete


def test_whoever_has_become_complete_parts_from_those_who_are():
    seeder, leecher = Side("******"), Side("      ")
    Meeting(seeder, leecher).talk()

    (close,) = leecher.effects(Close)
    assert (close.redundant, close.banned) == (True, False)
    assert leecher.transfer.peers == []


def test_two_that_are_complete_part_as_soon_as_they_know():
    one, two = Side("******"), Side("******")
    Meeting(one, two).talk(0.25)

    for side in (one, two):
        assert side.transfer.peers == [] or not side.transfer.peers[0].session.peer_has.complete
    assert any(effect.redundant for side in (one, two) for effect in side.effects(Close))


def test_a_partial_seeder_gives_what_it_has_and_is_kept():
    partial, leecher = Side("**    ", wanted="      "), Side("      ")
    Meeting(partial, leecher).talk()

    assert list(leecher.transfer.have) == [0, 1]
    assert not leecher.transfer.finished
    assert partial.transfer.finished
    assert len(leecher.transfer.peers) == 1
    assert not leecher.transfer.peers[0].session.am_interested


def test_two_that_want_nothing_part_though_neither_has_everything():
    one, two = Side("**    ", wanted="      "), Side("   *  ", wanted="      ")
    Meeting(one, two).talk(0.25)

    closes = [effect for side in (one, two) for effect in side.effects(Close)]
    assert closes
    assert all((c.redundant, c.reason) == (True, "neither end wants anything") for c in closes)


def test_whoever_got_all_that_it_wanted_parts_from_those_who_want_nothing():
    partial, leecher = Side("**    ", wanted="      "), Side("      ", wanted="**    ")
    Meeting(partial, leecher).talk()

    assert leecher.transfer.finished
    assert [effect.reason for effect in leecher.effects(Close)] == ["neither end wants anything"]
    assert leecher.transfer.peers == []


def test_whoever_got_all_that_it_wanted_says_so_unless_it_has_everything():
    some, all_but_one = Side("      ", wanted="*     "), Side(" *****")
    for side, told in ((some, 1), (all_but_one, 0)):
        giver, other = side.join(1), side.join(2)
        side.hear(giver, wire.encode_bitfield(b"\x80") + wire.UNCHOKE, 0.0)
        for block in list(giver.session.outstanding):
            side.hear(giver, wire.block_header(block) + pattern(block), 0.0)

        assert side.transfer.finished
        said = output(other.session)
        assert said.count(extension.encode_upload_only(True)) == told


def test_only_what_is_wanted_is_fetched():
    seeder, leecher = Side("******"), Side("      ", wanted=" * *  ")
    Meeting(seeder, leecher).talk()

    assert list(leecher.transfer.have) == [1, 3]
    assert leecher.transfer.finished


def test_each_hears_who_the_other_is():
    one, two = Side("******"), Side("      ")
    Meeting(one, two).talk(0.25)

    assert [effect.handshake for effect in one.effects(Learned)] == [HELLO]
    assert [effect.handshake for effect in two.effects(Learned)] == [
        replace(HELLO, upload_only=True)
    ]


def test_messages_of_extensions_are_passed_on_with_their_name():
    side = Side("      ")
    peer = side.join(hello=replace(HELLO, messages=extension.offer(extension.UT_PEX)))

    side.hear(peer, wire.encode_extended(extension.IDS[extension.UT_PEX], b"de"), 0.0)

    assert side.effects(Heard) == [Heard(peer, extension.UT_PEX, b"de")]


def test_a_peer_that_queues_few_requests_is_asked_for_few():
    side = Side("      ")
    peer = side.join()
    hello = extension.encode(ExtendedHandshake(reqq=2))
    side.hear(peer, wire.encode_bitfield(b"\xfc") + wire.encode_extended(0, hello), 0.0)
    side.hear(peer, wire.UNCHOKE, 0.0)

    assert len(peer.session.outstanding) == 2


# -- one of them


def test_the_first_message_to_a_peer_is_our_bitfield():
    peer = Side("* *   ").join()

    assert output(peer.session).startswith(wire.encode_bitfield(b"\xa0"))


def test_whoever_has_nothing_sends_no_bitfield():
    assert not output(Side("      ").join().session).startswith(b"\0\0\0\2\5")


def test_a_verified_piece_is_told_to_everybody_once():
    side = Side("      ")
    one, two = side.join(1), side.join(2)
    for peer in (one, two):
        side.hear(peer, wire.encode_bitfield(b"\x80"), 0.0)
        side.hear(peer, wire.UNCHOKE, 0.0)
    for block in list(one.session.outstanding):
        side.hear(one, wire.block_header(block) + pattern(block), 0.0)
    side.transfer.verified(0, (), 0.0)

    assert side.transfer.have[0]
    for peer in (one, two):
        assert output(peer.session).count(wire.encode_have(0)) == 1


def test_nothing_is_advertised_before_it_is_verified():
    side = Side("      ")
    peer = side.join()
    side.hear(peer, wire.encode_bitfield(b"\x80") + wire.UNCHOKE, 0.0)
    for block in list(peer.session.outstanding):
        side.transfer.receive(
            peer,
            peer.session.receive_data(wire.block_header(block) + bytes(block.length), 0.0),
            0.0,
        )

    assert isinstance(side.transfer.take_effects()[-1], Verify)
    assert wire.encode_have(0) not in output(peer.session)
    assert not side.transfer.have[0]


def test_a_piece_that_failed_is_fetched_again():
    side = Side("      ")
    one, two = side.join(1), side.join(2)
    side.hear(one, wire.encode_bitfield(b"\x80"), 0.0)
    side.hear(two, wire.encode_bitfield(b"\x80"), 0.0)
    side.hear(one, wire.UNCHOKE, 0.0)
    for block in list(one.session.outstanding):
        side.transfer.receive(
            one,
            one.session.receive_data(wire.block_header(block) + bytes(block.length), 0.0),
            0.0,
        )
    side.transfer.rejected(0, [b"x"] * 4, 0.0)
    side.carry_out(0.0)
    side.hear(two, wire.UNCHOKE, 0.0)

    assert [effect.peer for effect in side.effects(Close) if effect.banned] == [one]
    assert sum(block.length for block in two.session.outstanding) == GEOMETRY.piece_size(0)


def test_a_breach_closes_the_connection_and_what_came_before_it_leaves_no_trace():
    side = Side("      ")
    peer = side.join()
    side.hear(peer, wire.encode_have(1) + wire.encode_have(3) + b"\0\0\0\x01\x63", 0.0)

    assert side.transfer.peers == []
    (close,) = side.effects(Close)
    assert "not negotiated" in close.reason
    assert not close.banned
    picker = side.transfer.leeching.picker
    assert [picker.availability(piece) for piece in range(6)] == [0] * 6


def test_what_a_peer_owed_when_it_broke_the_protocol_is_asked_of_others():
    side = Side("      ")
    one, two = side.join(1), side.join(2)
    for peer in (one, two):
        side.hear(peer, wire.encode_bitfield(b"\x80") + wire.UNCHOKE, 0.0)
    first = next(iter(one.session.outstanding))
    side.hear(one, wire.block_header(first) + pattern(first) + b"\0\0\0\x01\x63", 0.0)

    assert {effect.block for effect in side.effects(Store)} == {first}
    covered = sum(block.length for block in two.session.outstanding)
    assert covered == GEOMETRY.piece_size(0) - first.length


def test_a_peer_that_was_late_and_serves_again_owes_what_it_was_asked_for_and_no_more():
    """It keeps our requests over a choke, as the fast extension has it."""
    side = Side("      ")
    peer = side.join(fast=True)
    side.hear(peer, wire.HAVE_ALL + wire.UNCHOKE, 0.0)
    side.transfer.tick(SNUB_AFTER)
    [kept] = peer.session.outstanding

    side.hear(peer, wire.CHOKE + wire.UNCHOKE, SNUB_AFTER)
    asked = list(peer.session.outstanding)
    assert kept in asked
    for block in (kept, *asked):
        side.hear(peer, wire.block_header(block) + pattern(block), SNUB_AFTER)

    assert peer.session.owed == sum(map(blocks_in, peer.session.outstanding))
    assert (peer.wasted, side.effects(Close)) == (kept.length, [])


def test_a_silent_peer_is_closed_by_the_tick():
    side = Side("      ")
    side.join()
    side.transfer.tick(SILENCE_LIMIT - 1)
    side.carry_out(0.0)
    assert len(side.transfer.peers) == 1

    side.transfer.tick(SILENCE_LIMIT)
    side.carry_out(0.0)
    assert side.transfer.peers == []


def test_a_piece_that_was_lost_is_neither_served_nor_fetched():
    seeder = Side("******")
    peer = seeder.join()
    seeder.hear(peer, wire.INTERESTED, 0.0)
    seeder.transfer.tick(0.25)
    seeder.hear(peer, wire.encode_requests([GEOMETRY.block(0, 0), GEOMETRY.block(1, 0)]), 0.25)

    seeder.transfer.lost(0)
    seeder.transfer.lost(0)
    seeder.hear(peer, wire.encode_requests([GEOMETRY.block(0, 1)]), 0.25)

    assert seeder.transfer.serving.serve(peer, lambda piece: True) == BLOCK_LENGTH
    assert seeder.transfer.serving.serve(peer, lambda piece: True) == 0
    assert not seeder.transfer.have[0]
    assert seeder.transfer.finished


def test_who_understands_it_is_told_of_a_piece_that_was_lost():
    side = Side("******", wanted="      ")
    plain, knowing = side.join(1), side.join(2)
    hello = extension.encode(ExtendedHandshake(messages={extension.DONT_HAVE: 77}))
    side.hear(knowing, wire.encode_extended(0, hello), 0.0)
    for peer in (plain, knowing):
        output(peer.session)

    side.transfer.lost(2)

    assert output(knowing.session) == wire.encode_extended(77, b"\0\0\0\2")
    assert not plain.session.has_data_to_send


def test_a_piece_that_a_complete_peer_lost_is_not_asked_of_it():
    hello = replace(HELLO, messages=extension.offer(extension.DONT_HAVE))
    side = Side("      ")
    seeder, other = side.join(1, hello=hello), side.join(2, hello=hello)
    for peer in (seeder, other):
        side.hear(peer, wire.encode_bitfield(b"\xfc"), 0.0)
    for piece in (b"\1", b"\1", b"\4"):
        lost = wire.encode_extended(extension.IDS[extension.DONT_HAVE], b"\0\0\0" + piece)
        side.hear(seeder, lost, 0.0)

    picker = side.transfer.leeching.picker
    assert [picker.availability(piece) for piece in range(6)] == [2, 1, 2, 2, 1, 2]
    assert (seeder.interesting, other.interesting) == (4, 6)
    side.hear(seeder, wire.UNCHOKE, 0.0)
    assert {1, 4}.isdisjoint(block.piece for block in seeder.session.outstanding)
    side.hear(seeder, wire.encode_have(1), 0.0)
    side.transfer.leave(seeder, 0.0)
    assert [picker.availability(piece) for piece in range(6)] == [1] * 6


def test_pieces_that_come_and_go_in_one_chunk_are_counted_once():
    hello = replace(HELLO, messages=extension.offer(extension.DONT_HAVE))
    side = Side("      ")
    peer = side.join(1, hello=hello)
    number = extension.IDS[extension.DONT_HAVE]
    lost = [wire.encode_extended(number, b"\0\0\0" + piece) for piece in (b"\1", b"\4")]
    field = wire.encode_bitfield(b"\xfc")
    picker = side.transfer.leeching.picker

    side.hear(peer, field + b"".join(lost) + wire.encode_have(1), 0.0)
    assert [picker.availability(piece) for piece in range(6)] == [1, 1, 1, 1, 0, 1]
    assert peer.interesting == 5

    side.transfer.leave(peer, 0.0)
    assert [picker.availability(piece) for piece in range(6)] == [0] * 6


@pytest.mark.parametrize("first", [b"\x00", b"\x84"], ids=["nothing", "two"])
@pytest.mark.parametrize("later", [b"\xfc", b"\xc0\xb0"], ids=["everything", "some, twice"])
def test_a_later_bitfield_counts_as_haves(first, later):
    side = Side("*     ")
    peer, told = side.join(1), side.join(2)
    side.hear(peer, wire.encode_bitfield(first), 0.0)
    side.hear(told, wire.encode_bitfield(first), 0.0)
    has = first[0]
    for field in later:
        side.hear(peer, wire.encode_bitfield(bytes((field,))), 0.0)
        has |= field
    for piece in range(6):
        if has & 0x80 >> piece:
            side.hear(told, wire.encode_have(piece), 0.0)

    picker = side.transfer.leeching.picker
    expected = [2 * bool(has & 0x80 >> piece) for piece in range(6)]
    assert [picker.availability(piece) for piece in range(6)] == expected
    assert peer.interesting == told.interesting
    assert peer.session.am_interested
    side.transfer.leave(peer, 0.0)
    assert [2 * picker.availability(piece) for piece in range(6)] == expected


def test_who_tells_a_complete_peer_by_a_later_bitfield_that_it_is_complete_is_left():
    side = Side("******")
    peer = side.join()
    side.hear(peer, wire.encode_bitfield(b"\x80"), 0.0)
    assert side.transfer.peers == [peer]

    side.hear(peer, wire.encode_bitfield(b"\xfc"), 0.0)

    assert side.transfer.peers == []


def test_a_piece_lost_while_in_progress_is_forgotten():
    side = Side("      ")
    peer = side.join()
    side.hear(peer, wire.encode_bitfield(b"\x80") + wire.UNCHOKE, 0.0)
    block = next(iter(peer.session.outstanding))
    side.hear(peer, wire.block_header(block) + pattern(block), 0.0)

    side.transfer.leeching.abandon(0)

    assert side.transfer.take_effects() == [Forget(0)]

"""One peer connection, sans-IO: two sessions joined in memory, and one fed with raw bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import WireError
from p2pfs.formats import bencode, extension, wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import UT_METADATA, UT_PEX, ExtendedHandshake
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.events import (
    BlockArrived,
    BlockCancelled,
    BlockRequested,
    Breached,
    Extended,
    InterestChanged,
    PeerBitfield,
    PeerChoked,
    PeerExtended,
    PeerHave,
    PeerHaves,
    PeerLost,
    PeerUnchoked,
    PeerUploadOnly,
)
from p2pfs.swarm.session import KEEP_ALIVE_AFTER, SILENCE_LIMIT, STRIKES, Session
from tests.swarm.link import Pair, output, pattern

GEOMETRY = Geometry(10 * 4 * BLOCK_LENGTH - 100, 4 * BLOCK_LENGTH)  # 10 pieces, the last shorter
FIRST, SECOND = GEOMETRY.block(3, 0), GEOMETRY.block(3, 1)
LAST = GEOMETRY.block(9, 3)
BREACH = b"\0\0\0\x01\x63"


def session(*, extended: bool = True) -> Session:
    return Session(GEOMETRY, 0.0, extended=extended)


def piece_message(block: BlockRequest) -> bytes:
    return wire.block_header(block) + pattern(block)


def breach(peer: Session, data: bytes) -> str:
    """Why `data` ends the session."""
    event = peer.receive_data(data, 0.0)[-1]
    assert isinstance(event, Breached)
    return event.reason


@pytest.fixture(params=[None, 1, 7], ids=["whole", "byte by byte", "seven at a time"])
def pair(request) -> Pair:
    """`one` downloads, `two` serves: unchoked, both sides settled."""
    pair = Pair(GEOMETRY, cut=request.param)
    pair.two.unchoke()
    pair.pass_on(pair.two)
    pair.one.set_interested(True)
    pair.pass_on(pair.one)
    return pair


# -- how it begins


def test_both_sides_start_choked_and_not_interested():
    peer = session()

    assert (peer.am_choking, peer.peer_choking) == (True, True)
    assert (peer.am_interested, peer.peer_interested) == (False, False)
    assert peer.peer_has.count == 0
    assert not peer.has_data_to_send


def test_a_bitfield_tells_what_the_peer_has(pair):
    pair.two.send_bitfield(Bitfield.of(10, [0, 9]))

    # It has to be the first message, so `one` has to be new.
    pair.one = session()
    assert pair.pass_on(pair.two) == [PeerBitfield(Bitfield.of(10, [0, 9]))]
    assert list(pair.one.peer_has) == [0, 9]


def test_an_empty_bitfield_is_not_sent():
    peer = session()
    peer.send_bitfield(Bitfield(10))

    assert not peer.has_data_to_send


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_bitfield_of_the_wrong_size_is_a_breach(size):
    assert "cannot have" in breach(session(), wire.encode_bitfield(bytes(size)))


def test_spare_bits_in_a_bitfield_are_masked_and_borne():
    peer = session()

    (event,) = peer.receive_data(wire.encode_bitfield(b"\x80\x7f"), 0.0)
    assert event == PeerBitfield(Bitfield.of(10, [0, 9]))
    assert list(peer.peer_has) == [0, 9]


def test_a_bitfield_is_told_as_it_was_when_it_came():
    peer = session()

    first, _ = peer.receive_data(wire.encode_bitfield(b"\x80\x00") + wire.encode_have(3), 0.0)

    assert list(first.has) == [0]
    assert list(peer.peer_has) == [0, 3]


@pytest.mark.parametrize(
    "first",
    [wire.encode_bitfield(b"\x80\x00"), wire.encode_have(0), wire.UNCHOKE + wire.encode_have(0)],
    ids=["bitfield", "have", "unchoke and have"],
)
def test_a_later_bitfield_adds_what_is_new_in_it_and_takes_nothing_back(first):
    peer = session()
    peer.receive_data(first, 0.0)
    assert list(peer.peer_has) == [0]

    assert peer.receive_data(wire.encode_bitfield(b"\xc0\x40"), 0.0) == [
        PeerHaves(Bitfield.of(10, [1, 9]))
    ]
    assert peer.receive_data(wire.encode_bitfield(b"\x40\x40") * 1000, 0.0) == []
    assert list(peer.peer_has) == [0, 1, 9]


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_later_bitfield_of_the_wrong_size_is_a_breach(size):
    assert "cannot have" in breach(session(), wire.UNCHOKE + wire.encode_bitfield(bytes(size)))


def test_spare_bits_in_bitfields_are_borne_so_many_times():
    peer = session()
    field = wire.encode_bitfield(b"\x80\x7f")

    events = peer.receive_data(field * STRIKES, 0.0)

    assert events == [PeerBitfield(Bitfield.of(10, [0, 9]))]
    assert "spare bits" in breach(peer, field)


def test_an_extended_handshake_and_keep_alives_may_come_before_the_bitfield():
    peer = session()
    hello = wire.encode_extended(0, extension.encode(ExtendedHandshake(client="x")))

    events = peer.receive_data(
        hello + wire.KEEP_ALIVE + hello + wire.encode_bitfield(b"\x80\x00"), 0.0
    )

    assert [type(event) for event in events] == [PeerExtended, PeerExtended, PeerBitfield]


# -- have, choke, interest


def test_a_have_is_told_once(pair):
    pair.two.send_have(4)
    pair.two.send_have(4)

    assert pair.pass_on(pair.two) == [PeerHave(4)]
    assert list(pair.one.peer_has) == [4]


@pytest.mark.parametrize("piece", [10, 2**32 - 1])
def test_a_have_beyond_the_torrent_is_a_breach(piece):
    assert f"have for piece {piece} of 10" in breach(session(), wire.encode_have(piece))


def test_each_flag_is_sent_and_told_when_it_changes_and_only_then():
    pair = Pair(GEOMETRY)
    pair.one.set_interested(False)
    pair.one.choke()
    assert not pair.one.has_data_to_send

    for _ in range(2):
        pair.one.set_interested(True)
        pair.one.unchoke()
    assert pair.pass_on(pair.one) == [InterestChanged(True), PeerUnchoked()]
    assert (pair.two.peer_interested, pair.two.peer_choking) == (True, False)

    for _ in range(2):
        pair.one.set_interested(False)
        pair.one.choke()
    assert pair.pass_on(pair.one) == [InterestChanged(False), PeerChoked(())]


def test_flags_that_the_peer_repeats_are_told_once():
    peer = session()

    events = peer.receive_data(wire.INTERESTED * 3 + wire.UNCHOKE * 3, 0.0)

    assert events == [InterestChanged(True), PeerUnchoked()]


# -- requests


def test_a_request_is_answered_with_its_block(pair):
    pair.one.request([FIRST, LAST], 0.0)
    assert pair.pass_on(pair.one) == [BlockRequested(FIRST), BlockRequested(LAST)]
    pair.two.send_block(FIRST)
    pair.two.send_block(LAST)
    pair.now = 1.5

    assert pair.pass_on(pair.two) == [
        BlockArrived(FIRST, pattern(FIRST), 1.5),
        BlockArrived(LAST, pattern(LAST), 1.5),
    ]
    assert (pair.one.outstanding, pair.one.owed) == ({}, 0)


def test_what_is_outstanding_is_counted_in_blocks(pair):
    run = BlockRequest(2, 0, 3 * BLOCK_LENGTH)
    pair.one.request([run, LAST], 0.0)

    assert pair.one.owed == 4
    pair.one.cancel([run])
    assert pair.one.owed == 1


def test_a_request_that_is_made_again_before_its_answer_is_sent_and_counted_once(pair):
    pair.one.request([FIRST], 0.0)
    pair.one.request([SECOND, FIRST, LAST], 1.0)
    pair.one.request([LAST, FIRST], 2.0)

    asked = [FIRST, SECOND, LAST]
    assert (list(pair.one.outstanding), pair.one.owed) == (asked, 3)
    assert pair.pass_on(pair.one) == [BlockRequested(block) for block in asked]


def test_a_choke_takes_back_every_request(pair):
    pair.one.request([FIRST, SECOND], 0.0)
    pair.two.choke()

    assert pair.pass_on(pair.two) == [PeerChoked((FIRST, SECOND))]
    assert (pair.one.outstanding, pair.one.owed) == ({}, 0)


def test_blocks_that_cross_a_choke_or_a_cancel_are_late_and_welcome(pair):
    pair.one.request([FIRST, SECOND], 0.0)
    pair.pass_on(pair.one)
    pair.one.cancel([SECOND])
    pair.two.choke()
    pair.two.send_block(FIRST)
    pair.two.send_block(SECOND)

    assert pair.pass_on(pair.two) == [
        PeerChoked((FIRST,)),
        BlockArrived(FIRST, pattern(FIRST), None),
        BlockArrived(SECOND, pattern(SECOND), None),
    ]


def test_requests_while_we_choke_are_not_heard():
    peer = session()

    assert peer.receive_data(wire.encode_requests([FIRST] * 1000), 0.0) == []


def test_a_cancel_is_told(pair):
    pair.one.request([FIRST], 0.0)
    pair.one.cancel([FIRST, SECOND])

    assert pair.pass_on(pair.one) == [BlockRequested(FIRST), BlockCancelled(FIRST)]


def test_cancelling_what_was_not_asked_for_sends_nothing(pair):
    pair.one.cancel([FIRST])

    assert not pair.one.has_data_to_send


WRONG_REQUESTS = {
    "piece beyond the torrent": BlockRequest(10, 0, BLOCK_LENGTH),
    "beyond the last piece": BlockRequest(9, 3 * BLOCK_LENGTH, BLOCK_LENGTH),
    "begin beyond the piece": BlockRequest(0, 4 * BLOCK_LENGTH, 1),
    "empty": BlockRequest(0, 0, 0),
    "too long": BlockRequest(0, 0, BLOCK_LENGTH + 1),
    "absurd": BlockRequest(2**32 - 1, 2**32 - 1, 2**32 - 1),
}


@pytest.mark.parametrize("wrong", WRONG_REQUESTS.values(), ids=list(WRONG_REQUESTS))
def test_a_request_that_cannot_be_answered_is_borne_so_many_times(wrong):
    peer = session()
    peer.unchoke()

    assert peer.receive_data(wire.encode_requests([wrong] * STRIKES), 0.0) == []
    assert "too many requests" in breach(peer, wire.encode_requests([wrong]))


def test_odd_requests_inside_a_piece_are_served():
    peer = session()
    peer.unchoke()
    odd = BlockRequest(0, 5, 100)

    assert peer.receive_data(wire.encode_requests([odd]), 0.0) == [BlockRequested(odd)]


# -- blocks nobody asked for


@pytest.mark.parametrize(
    "block",
    [FIRST, BlockRequest(3, 1, 100), BlockRequest(99, 0, 1), BlockRequest(9, 2**32 - 1, 9)],
)
def test_a_block_that_was_not_asked_for_is_not_reported_and_borne_so_many_times(block):
    peer = session()
    peer.request([SECOND], 0.0)
    for _ in range(STRIKES):
        assert peer.receive_data(piece_message(block), 0.0) == []

    assert "blocks that nobody asked for" in breach(peer, piece_message(block))


def test_a_block_is_accepted_only_for_the_exact_range_that_was_asked_for():
    peer = session()
    peer.request([FIRST], 0.0)
    near = FIRST._replace(length=FIRST.length - 1)

    assert peer.receive_data(piece_message(near), 0.0) == []
    assert list(peer.outstanding) == [FIRST]


def test_a_block_that_comes_twice_is_reported_once():
    peer = session()
    peer.request([FIRST], 0.0)

    assert len(peer.receive_data(piece_message(FIRST) * 2, 0.0)) == 1


def test_taking_requests_back_does_not_license_other_blocks():
    peer = session()
    for _ in range(20):
        peer.request([FIRST, SECOND], 0.0)
        peer.receive_data(wire.CHOKE, 0.0)
    other = piece_message(GEOMETRY.block(5, 0))

    assert peer.receive_data(other * STRIKES, 0.0) == []
    assert breach(peer, other)


# -- the extension protocol


def test_each_side_tells_who_it_is(pair):
    hello = ExtendedHandshake(client="p2pfs 0.1", port=9000, reqq=500, run_length=4 * BLOCK_LENGTH)
    pair.two.send_extended_handshake(hello)

    assert pair.pass_on(pair.two) == [PeerExtended(hello)]
    assert pair.one.run_length == 4 * BLOCK_LENGTH


def test_longer_requests_and_blocks_pass_between_peers_that_agreed_on_them(pair):
    hello = ExtendedHandshake(run_length=4 * BLOCK_LENGTH)
    for sender in (pair.one, pair.two):
        sender.send_extended_handshake(hello)
        pair.pass_on(sender)
    run = BlockRequest(2, 0, 4 * BLOCK_LENGTH)
    pair.one.request([run], 0.0)

    assert pair.pass_on(pair.one) == [BlockRequested(run)]
    pair.two.send_block(run)
    assert pair.pass_on(pair.two) == [BlockArrived(run, pattern(run), 0.0)]


def test_nothing_extended_is_sent_to_a_peer_without_the_extension_protocol():
    peer = session(extended=False)
    peer.send_extended_handshake(ExtendedHandshake())

    assert not peer.has_data_to_send


def test_an_extended_message_that_was_not_negotiated_is_a_breach():
    assert "not negotiated" in breach(session(extended=False), wire.encode_extended(0, b"de"))


def test_extended_messages_that_we_did_not_offer_are_ignored():
    peer = session()
    peer.send_extended_handshake(ExtendedHandshake(messages=extension.offer(UT_METADATA)))

    for number in (2, 3, 4, 9, 255):
        assert peer.receive_data(wire.encode_extended(number, b"anything"), 0.0) == []


def test_an_extended_message_is_sent_by_the_receivers_id_and_told_by_its_name(pair):
    hello = ExtendedHandshake(messages={UT_METADATA: 200, UT_PEX: 7})
    pair.two.send_extended_handshake(hello)
    pair.pass_on(pair.two)
    assert pair.one.peer_extensions == hello.messages

    assert pair.one.send_extended(UT_METADATA, b"payload")
    assert pair.one.send_extended(UT_PEX, b"")

    assert pair.pass_on(pair.one) == [Extended(UT_METADATA, b"payload"), Extended(UT_PEX, b"")]


def test_what_a_peer_does_not_understand_is_not_sent_to_it(pair):
    for messages in ({}, {UT_METADATA: 3}, {UT_METADATA: 0}):
        payload = bencode.encode({b"m": messages})
        pair.one.receive_data(wire.encode_extended(0, payload), 0.0)
        assert pair.one.send_extended(UT_METADATA, b"x") == (messages == {UT_METADATA: 3})

    assert output(pair.one) == wire.encode_extended(3, b"x")


def test_each_connection_has_ids_of_its_own():
    one, two = session(), session()
    for peer, number in ((one, 1), (two, 2)):
        hello = ExtendedHandshake(messages={UT_PEX: number})
        peer.receive_data(wire.encode_extended(0, extension.encode(hello)), 0.0)

    assert (one.peer_extensions, two.peer_extensions) == ({UT_PEX: 1}, {UT_PEX: 2})


def test_wanting_nothing_any_more_is_told_by_a_message_or_by_another_handshake(pair):
    for messages in ({}, extension.offer(extension.UPLOAD_ONLY)):
        pair.two.send_extended_handshake(ExtendedHandshake(messages=messages))
        pair.pass_on(pair.two)
        pair.one.send_upload_only(True)
        pair.one.send_upload_only(False)

    events = pair.pass_on(pair.one)

    assert [event.handshake.upload_only for event in events[:2]] == [True, False]
    assert events[2:] == [PeerUploadOnly(True), PeerUploadOnly(False)]
    assert not pair.two.introduction.upload_only


def test_pieces_that_a_peer_takes_back_are_not_expected_of_it(pair):
    pair.one.send_extended_handshake(
        ExtendedHandshake(messages=extension.offer(extension.DONT_HAVE))
    )
    pair.pass_on(pair.one)
    pair.two.send_have(3)
    pair.pass_on(pair.two)
    pair.one.request([FIRST, LAST], 0.0)

    assert pair.two.send_dont_have(3)
    assert pair.two.send_dont_have(4)
    pair.two.send_block(FIRST)

    assert pair.pass_on(pair.two) == [
        PeerLost(3, (FIRST,)),
        BlockArrived(FIRST, pattern(FIRST), None),
    ]
    assert list(pair.one.outstanding) == [LAST]
    assert pair.one.peer_has.count == 0


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", b"\0\0\0\0\0", b"\0\0\0\x0a", b"\xff" * 4])
def test_pieces_taken_back_that_do_not_exist_are_borne_so_many_times(payload):
    peer = session()
    peer.send_extended_handshake(ExtendedHandshake(messages=extension.offer(extension.DONT_HAVE)))
    message = wire.encode_extended(extension.IDS[extension.DONT_HAVE], payload)

    assert peer.receive_data(message * STRIKES, 0.0) == []
    assert "taken back" in breach(peer, message)


def test_a_senseless_extended_handshake_is_borne_so_many_times():
    peer, senseless = session(), wire.encode_extended(0, b"i-0e")

    assert peer.receive_data(senseless * STRIKES, 0.0) == []
    assert breach(peer, senseless)


# -- breaches


def test_what_came_before_a_breach_counts():
    peer = session()
    peer.request([FIRST], 0.0)

    events = peer.receive_data(
        wire.encode_bitfield(b"\x80\x00") + piece_message(FIRST) + wire.encode_have(2) + BREACH, 0.0
    )

    assert [type(event) for event in events] == [PeerBitfield, BlockArrived, PeerHave, Breached]


def test_what_comes_after_a_breach_is_not_heard():
    peer = session()

    events = peer.receive_data(BREACH + wire.encode_have(1), 0.0)

    assert [type(event) for event in events] == [Breached]
    assert peer.receive_data(wire.encode_have(2), 0.0) == []
    assert peer.peer_has.count == 0


# -- time


def test_a_peer_that_says_nothing_for_two_minutes_is_gone():
    peer = session()
    peer.receive_data(wire.KEEP_ALIVE, 50.0)

    peer.tick(50.0 + SILENCE_LIMIT - 1)
    with pytest.raises(WireError, match="silent for 125 s"):
        peer.tick(50.0 + SILENCE_LIMIT)


def test_a_keep_alive_goes_out_after_a_while_without_other_data():
    peer = session()
    peer.send_have(1)
    output(peer, now=30.0)
    peer.receive_data(wire.KEEP_ALIVE, 60.0)

    peer.tick(30.0 + KEEP_ALIVE_AFTER - 1)
    assert not peer.has_data_to_send
    peer.tick(30.0 + KEEP_ALIVE_AFTER)
    assert output(peer, now=130.0) == wire.KEEP_ALIVE
    assert 100 <= KEEP_ALIVE_AFTER <= 120 < SILENCE_LIMIT


def test_a_peer_is_late_only_from_the_moment_it_owes_something():
    peer = session()
    peer.request([FIRST], 50.0)
    assert peer.last_block_at == 50.0

    peer.request([SECOND], 60.0)
    assert peer.last_block_at == 50.0
    peer.receive_data(piece_message(FIRST), 70.0)
    assert peer.last_block_at == 70.0


# -- properties

messages = st.one_of(
    st.sampled_from([wire.KEEP_ALIVE, wire.CHOKE, wire.UNCHOKE, wire.INTERESTED, BREACH]),
    st.integers(0, 11).map(wire.encode_have),
    st.binary(min_size=2, max_size=2).map(wire.encode_bitfield),
    st.sampled_from([FIRST, SECOND, LAST]).map(piece_message),
    st.builds(BlockRequest, st.integers(0, 10), st.integers(0, 2**17), st.integers(0, 2**15)).map(
        lambda block: wire.encode_requests([block])
    ),
    st.binary(max_size=20).map(lambda payload: wire.encode_extended(0, payload)),
    st.binary(max_size=30),
)


@given(st.lists(messages, max_size=25), st.integers(1, 50_000))
@settings(max_examples=100, deadline=None)
def test_whatever_a_peer_says_only_a_breach_ends_it_and_the_cut_does_not_matter(sent, cut):
    def told(cut: int) -> tuple[list[object], Session]:
        peer = session()
        peer.unchoke()
        peer.request([FIRST, SECOND, LAST], 0.0)
        peer.cancel([LAST])
        data, events = b"".join(sent), []
        for start in range(0, len(data), cut):
            for event in peer.receive_data(data[start : start + cut], 0.0):
                if isinstance(event, BlockArrived):
                    event = event._replace(data=bytes(event.data))
                events.append(Breached if isinstance(event, Breached) else event)
        return events, peer

    events, peer = told(1 << 20)
    assert events == told(cut)[0]
    assert Breached not in events[:-1]
    assert peer.owed == len(peer.outstanding)
    asked = {FIRST, SECOND, LAST}
    assert {event.block for event in events if isinstance(event, BlockArrived)} <= asked

"""A connection before the metadata is known: what the peer says is kept, and judged later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.formats import extension, wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import UT_METADATA, ExtendedHandshake, offer
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.bare_session import MAX_PIECES, BareSession
from p2pfs.swarm.events import (
    Breached,
    Event,
    Extended,
    InterestChanged,
    PeerBitfield,
    PeerExtended,
    PeerHave,
    PeerUnchoked,
)
from p2pfs.swarm.session import STRIKES, Session
from tests.swarm.link import output

GEOMETRY = Geometry(10 * BLOCK_LENGTH, BLOCK_LENGTH)
BLOCK = BlockRequest(0, 0, BLOCK_LENGTH)
INTRODUCTION = ExtendedHandshake(
    client="other 1.0", port=6881, reqq=77, messages={UT_METADATA: 3}, metadata_size=5000
)


def introduction(**changes: object) -> bytes:
    return wire.encode_extended(0, extension.encode(INTRODUCTION))


def bare(*data: bytes, fast: bool = False) -> BareSession:
    """A session that has received this without a breach."""
    session = BareSession(0.0, extended=True, fast=fast)
    assert breach_of(session, *data) is None
    return session


def breach_of(session: Session, *data: bytes) -> str | None:
    events = [event for part in data for event in session.receive_data(part, 0.0)]
    breaches = [event.reason for event in events if isinstance(event, Breached)]
    return breaches[0] if breaches else None


def resumed(session: BareSession, geometry: Geometry = GEOMETRY) -> tuple[Session, list[Event]]:
    """The ordinary session after it, and the events of what it has to receive."""
    after, said = session.resume(geometry, 1.0)
    return after, after.receive_data(said, 1.0)


def test_messages_of_extensions_pass_at_once():
    session = BareSession(0.0, extended=True, fast=True)
    session.send_extended_handshake(ExtendedHandshake(messages=offer(UT_METADATA)))

    events = session.receive_data(introduction() + wire.encode_extended(1, b"payload"), 0.0)

    assert events == [PeerExtended(session.introduction), Extended(UT_METADATA, b"payload")]
    assert session.introduction.metadata_size == 5000


@pytest.mark.parametrize(("fast", "said"), [(True, wire.HAVE_NONE), (False, b"")])
def test_that_we_have_nothing_is_said_where_it_has_to_be(fast, said):
    session = BareSession(0.0, extended=True, fast=fast)
    session.greet()

    assert output(session) == said


def test_nothing_is_asked_of_the_peer_and_its_requests_are_rejected():
    session = bare(wire.HAVE_ALL, wire.UNCHOKE, wire.INTERESTED, fast=True)
    session.receive_data(wire.encode_requests([BLOCK]), 0.0)

    assert output(session) == wire.encode_rejects([BLOCK])


# -- what it said is what the session after it hears


@pytest.mark.parametrize("width", [1, 2, 1000, MAX_PIECES // 8])
def test_bitfields_of_any_size_are_kept(width):
    session = bare(wire.encode_bitfield(b"\x80" * width))

    after, events = resumed(session, Geometry(width * 8 * BLOCK_LENGTH, BLOCK_LENGTH))

    assert isinstance(events[0], PeerBitfield)
    assert list(after.peer_has) == list(range(0, width * 8, 8))


@pytest.mark.parametrize("width", [1, 3, 1000])
def test_a_bitfield_of_another_size_than_the_torrent_has_is_a_breach_then(width):
    _, events = resumed(bare(wire.encode_bitfield(b"\x80" * width)))

    assert isinstance(events[-1], Breached)


def test_haves_are_added_to_a_bitfield_or_stand_alone():
    with_field, _ = resumed(bare(wire.encode_bitfield(b"\x80\0"), wire.encode_have(9)))
    alone, _ = resumed(bare(wire.encode_have(0), wire.encode_have(9), wire.encode_have(9)))
    after_none, _ = resumed(bare(wire.HAVE_NONE, wire.encode_have(3), fast=True))

    assert list(with_field.peer_has) == [0, 9]
    assert list(alone.peer_has) == [0, 9]
    assert list(after_none.peer_has) == [3]


@pytest.mark.parametrize(
    "first", [wire.encode_bitfield(b"\x80\0"), wire.encode_have(0), wire.UNCHOKE]
)
def test_later_bitfields_are_added_to_what_came_before(first):
    after, _ = resumed(
        bare(first, wire.encode_bitfield(b"\x40\0"), wire.encode_bitfield(b"\0\x40"))
    )

    assert list(after.peer_has) == ([1, 9] if first == wire.UNCHOKE else [0, 1, 9])


def test_a_later_have_all_is_passed_on():
    after, _ = resumed(bare(wire.encode_bitfield(b"\x80\0"), wire.HAVE_ALL, fast=True))

    assert after.peer_has.complete


def test_a_have_beyond_the_torrent_is_a_breach_then():
    assert isinstance(resumed(bare(wire.encode_have(16)))[1][-1], Breached)


def test_all_and_none_are_passed_on():
    everything, _ = resumed(bare(wire.HAVE_ALL, wire.encode_have(3), fast=True))
    nothing, events = resumed(bare(wire.HAVE_NONE, fast=True))

    assert everything.peer_has.complete
    assert nothing.peer_has.count == 0
    assert events == [PeerBitfield(Bitfield(10))]


def test_choke_interest_grants_and_the_introduction_are_passed_on():
    session = bare(
        introduction(),
        wire.HAVE_ALL,
        wire.UNCHOKE,
        wire.INTERESTED,
        wire.encode_allowed_fast([3, 4]),
        fast=True,
    )

    after, events = resumed(session)

    assert after.introduction == session.introduction
    assert after.allowed == {3, 4}
    assert not after.peer_choking
    assert after.peer_interested
    assert events == [
        PeerBitfield(Bitfield.full(10)),
        PeerExtended(session.introduction),
        PeerUnchoked(),
        InterestChanged(True),
    ]


def test_the_latest_word_counts():
    after, _ = resumed(
        bare(wire.UNCHOKE, wire.INTERESTED, wire.CHOKE, b"\0\0\0\1\3", wire.KEEP_ALIVE)
    )

    assert after.peer_choking
    assert not after.peer_interested


def test_a_bitfield_that_comes_only_then_is_the_first_message_all_the_same():
    for fast in (False, True):
        after, events = resumed(bare(introduction(), fast=fast))
        assert events == [PeerExtended(after.introduction)]

        later = after.receive_data(wire.encode_bitfield(b"\xff\xc0"), 2.0)

        assert later == [PeerBitfield(Bitfield.full(10))]


@given(st.integers(0, 60))
def test_a_message_cut_by_the_change_is_heard_as_a_whole(place):
    data = wire.encode_bitfield(b"\x80\x40") + wire.encode_have(4) + introduction()
    session = bare(data[:place])
    after, events = resumed(session)
    events += after.receive_data(data[place:], 1.0)

    assert not any(isinstance(event, Breached) for event in events)
    assert list(after.peer_has) == [0, 4, 9]
    assert after.introduction.metadata_size == 5000


def test_the_peer_is_told_what_we_have_piece_by_piece_since_it_heard_that_we_have_none():
    after, _ = resumed(bare(wire.HAVE_ALL, fast=True))
    after.send_bitfield(Bitfield.of(10, [1, 7]))

    assert output(after) == wire.encode_have(1) + wire.encode_have(7)


def test_after_it_news_are_news():
    after, _ = resumed(bare(wire.encode_bitfield(b"\x80\0")))

    assert after.receive_data(wire.encode_have(0) + wire.encode_have(1), 2.0) == [PeerHave(1)]


# -- breaches


@pytest.mark.parametrize(
    ("fast", "data"),
    [
        (False, [wire.encode_bitfield(b"\0"), wire.encode_bitfield(b"\0\0")]),
        (False, [wire.encode_bitfield(b"\0\0"), wire.encode_bitfield(b"\0")]),
        (False, [wire.encode_have(8), wire.encode_bitfield(b"\0")]),
        (True, [wire.UNCHOKE]),
        (True, [wire.HAVE_ALL, wire.HAVE_NONE]),
        (True, [wire.HAVE_ALL, wire.encode_rejects([BLOCK])]),
        (False, [wire.encode_have(MAX_PIECES)]),
        (False, [wire.encode_have(2**32 - 1)]),
        (False, [b"\0\x10\0\0\5"]),
        (False, [b"\0\0\0\1\x63"]),
        (False, [wire.HAVE_ALL]),
    ],
)
def test_a_breach_ends_it(fast, data):
    assert breach_of(BareSession(0.0, extended=True, fast=fast), *data)


@pytest.mark.parametrize(
    "data", [wire.block_header(BLOCK) + bytes(BLOCK_LENGTH), wire.encode_requests([BLOCK])]
)
def test_blocks_and_requests_out_of_the_blue_are_borne_for_a_while(data):
    session = bare(*[data] * STRIKES)

    assert "too many" in str(breach_of(session, data))


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_any_bytes_are_borne_or_a_breach(parts, fast):
    session = BareSession(0.0, extended=True, fast=fast)
    for part in parts:
        for data in (part, len(part).to_bytes(4, "big") + part):
            session.receive_data(data, 0.0)
    after, said = session.resume(GEOMETRY, 1.0)
    after.receive_data(said, 1.0)

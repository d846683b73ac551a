"""Sessions that speak the fast extension (BEP 6): one answer to each request, nothing implied."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.formats import extension, wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import ExtendedHandshake
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.events import (
    BlockArrived,
    BlockCancelled,
    BlockRequested,
    Breached,
    PeerBitfield,
    PeerChoked,
    PeerHave,
    PeerHaves,
    PeerLost,
    PeerRejected,
    PeerUnchoked,
)
from p2pfs.swarm.session import (
    MAX_ALLOWED,
    MAX_REFUSED,
    REPETITIONS,
    STRIKES,
    TAKEN_BACK,
    Session,
)
from tests.swarm.link import Pair, output, pattern

GEOMETRY = Geometry(10 * 4 * BLOCK_LENGTH - 100, 4 * BLOCK_LENGTH)  # 10 pieces, the last shorter
FIRST, SECOND = GEOMETRY.block(3, 0), GEOMETRY.block(3, 1)
LAST = GEOMETRY.block(9, 3)
EXTENDED = wire.encode_extended(0, b"de")


def session(*, fast: bool = True, told: bool = True) -> Session:
    """`told`: the peer said already that it has nothing."""
    made = Session(GEOMETRY, 0.0, extended=True, fast=fast)
    if fast and told:
        made.receive_data(wire.HAVE_NONE, 0.0)
    return made


def reject(*blocks: BlockRequest) -> bytes:
    return wire.encode_rejects(blocks)


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
    pair = Pair(GEOMETRY, cut=request.param, fast=True)
    pair.one.send_bitfield(Bitfield(10))
    pair.two.send_bitfield(Bitfield.full(10))
    pair.two.unchoke()
    for sender in (pair.one, pair.two):
        pair.pass_on(sender)
    return pair


# -- what the peer has


@pytest.mark.parametrize(
    ("have", "message"),
    [
        (range(10), wire.HAVE_ALL),
        ((), wire.HAVE_NONE),
        ((0, 9), wire.encode_bitfield(b"\x80\x40")),
        (range(9), wire.encode_bitfield(b"\xff\x80")),
    ],
    ids=["all", "none", "some", "all but one"],
)
def test_what_we_have_is_said_once_and_in_short(have, message):
    pair = Pair(GEOMETRY, fast=True)
    pair.one.send_bitfield(Bitfield.of(10, have))
    assert pair.one._out == [message]

    assert pair.pass_on(pair.one) == [PeerBitfield(Bitfield.of(10, have))]
    assert list(pair.two.peer_has) == list(have)


def test_without_the_fast_extension_a_bitfield_says_it():
    peer = session(fast=False)
    peer.send_bitfield(Bitfield.full(10))

    assert output(peer) == wire.encode_bitfield(b"\xff\xc0")


FIELDS = {
    "bitfield": wire.encode_bitfield(b"\x80\x00"),
    "have all": wire.HAVE_ALL,
    "have none": wire.HAVE_NONE,
}


@pytest.mark.parametrize("first", FIELDS.values(), ids=list(FIELDS))
def test_nobody_says_later_that_it_has_nothing(first):
    reason = breach(session(told=False), first + wire.HAVE_NONE)

    assert reason == "have none after the first message"


@pytest.mark.parametrize("first", FIELDS.values(), ids=list(FIELDS))
def test_a_later_have_all_adds_what_the_peer_had_not(first):
    peer = session(told=False)
    (before,) = peer.receive_data(first, 0.0)
    missing = Bitfield.of(10, before.has.missing())

    events = peer.receive_data(wire.HAVE_ALL * 3, 0.0)

    assert events == ([PeerHaves(missing)] if missing.count else [])
    assert peer.peer_has.complete


@pytest.mark.parametrize("between", ["", "taken back"])
def test_later_have_alls_are_borne_so_many_times(between):
    peer = session(told=False)
    offered = extension.offer(extension.DONT_HAVE)
    peer.send_extended_handshake(ExtendedHandshake(messages=offered))
    peer.receive_data(wire.HAVE_ALL, 0.0)
    lost = wire.encode_extended(offered[extension.DONT_HAVE], bytes(4)) if between else b""

    events = peer.receive_data((lost + wire.HAVE_ALL) * (REPETITIONS + STRIKES), 0.0)

    assert not any(isinstance(event, Breached) for event in events)
    assert "everything" in breach(peer, lost + wire.HAVE_ALL)


@pytest.mark.parametrize(
    "first",
    [
        wire.encode_have(1),
        wire.UNCHOKE,
        wire.INTERESTED,
        wire.encode_requests([FIRST]),
        wire.encode_allowed_fast([1]),
        reject(FIRST),
    ],
    ids=["have", "unchoke", "interested", "request", "allowed fast", "reject"],
)
def test_nothing_comes_before_what_a_peer_has(first):
    assert "first message" in breach(session(told=False), first)


@pytest.mark.parametrize("field", FIELDS.values(), ids=list(FIELDS))
def test_extended_messages_and_what_says_nothing_may_come_before_it(field):
    peer = session(told=False)

    events = peer.receive_data(EXTENDED + wire.KEEP_ALIVE + b"\0\0\0\3\x09ab" + field, 0.0)

    assert isinstance(events[-1], PeerBitfield)


@pytest.mark.parametrize("data", [wire.HAVE_ALL, wire.HAVE_NONE, reject(FIRST)])
def test_messages_of_the_fast_extension_are_a_breach_where_it_was_not_negotiated(data):
    assert "not negotiated" in breach(session(fast=False), data)


def test_haves_add_to_have_none():
    assert session().receive_data(wire.encode_have(4) * 2, 0.0) == [PeerHave(4)]


# -- requests and their one answer


def test_a_choke_takes_no_request_back_with_the_fast_extension(pair):
    pair.one.request([FIRST, SECOND], 0.0)
    pair.pass_on(pair.one)
    pair.two.choke()
    pair.two.reject([SECOND])
    pair.two.send_block(FIRST)

    assert pair.pass_on(pair.two) == [
        PeerChoked(()),
        BlockArrived(FIRST, pattern(FIRST), 0.0),
        PeerRejected(SECOND),
    ]
    assert (pair.one.outstanding, pair.one.owed) == ({}, 0)


def test_what_is_rejected_is_told_after_a_choke_and_all_at_once():
    peer = session()
    peer.unchoke()
    peer.reject([FIRST])
    peer.reject([SECOND])
    peer.choke()

    assert peer.has_data_to_send
    assert output(peer) == wire.UNCHOKE + wire.CHOKE + reject(FIRST, SECOND)
    assert not peer.has_data_to_send


def test_nothing_is_rejected_without_the_fast_extension():
    peer = session(fast=False)
    peer.unchoke()
    output(peer)
    peer.reject([FIRST])
    peer.receive_data(wire.encode_requests([FIRST._replace(length=1 << 20)]), 0.0)

    assert not peer.has_data_to_send


def test_a_request_while_we_choke_is_rejected():
    peer = session()

    assert peer.receive_data(wire.encode_requests([FIRST, LAST]), 0.0) == []
    assert output(peer) == reject(FIRST, LAST)


def test_requests_while_we_choke_end_the_connection_after_very_many():
    peer = session()
    for _ in range(2):
        assert peer.receive_data(wire.encode_requests([FIRST] * MAX_REFUSED), 0.0) == []
        peer.unchoke()
        peer.choke()
    peer.receive_data(wire.encode_requests([FIRST] * MAX_REFUSED), 0.0)

    assert breach(peer, wire.encode_requests([FIRST])) == "too many requests while choked"


def test_a_request_that_cannot_be_answered_is_rejected_and_borne_so_many_times():
    peer = session()
    peer.unchoke()
    output(peer)
    wrong = [FIRST._replace(length=BLOCK_LENGTH + 1), FIRST._replace(piece=10)]

    assert peer.receive_data(wire.encode_requests(wrong), 0.0) == []
    assert output(peer) == reject(*wrong)
    assert "too many requests" in breach(peer, wire.encode_requests(wrong * STRIKES))


@pytest.mark.parametrize("answer", [reject(FIRST), piece_message(FIRST)], ids=["reject", "block"])
def test_a_cancelled_request_is_answered_too(answer):
    peer = session()
    peer.request([FIRST], 0.0)
    peer.cancel([FIRST])

    events = peer.receive_data(answer, 0.0)

    assert [type(event) for event in events] == ([] if answer[4] == 16 else [BlockArrived])
    assert "not asked for" in breach(peer, reject(FIRST))


def test_a_request_made_again_after_a_cancel_has_an_answer_of_its_own():
    peer = session()
    peer.request([FIRST], 0.0)
    peer.cancel([FIRST])
    peer.request([FIRST], 1.0)

    assert peer.receive_data(reject(FIRST), 2.0) == []
    assert list(peer.outstanding) == [FIRST]
    assert peer.receive_data(piece_message(FIRST), 3.0)[0].waited == 2.0


def test_requests_made_and_cancelled_over_and_over_may_all_be_rejected():
    peer = session()
    for _ in range(3):
        peer.request([FIRST], 0.0)
        peer.cancel([FIRST])

    [event] = peer.receive_data(reject(FIRST) + piece_message(FIRST) + reject(FIRST), 0.0)
    assert isinstance(event, BlockArrived)
    assert breach(peer, reject(FIRST)) == "a reject of what was not asked for"


@pytest.mark.parametrize("wrong", [FIRST, SECOND._replace(length=7), BlockRequest(99, 0, 1)])
def test_a_reject_of_what_was_not_asked_for_is_a_breach(wrong):
    peer = session()
    peer.request([SECOND], 0.0)

    assert breach(peer, reject(wrong)) == "a reject of what was not asked for"


def test_a_second_reject_is_a_breach():
    peer = session()
    peer.request([FIRST], 0.0)

    assert peer.receive_data(reject(FIRST), 0.0) == [PeerRejected(FIRST)]
    assert breach(peer, reject(FIRST)) == "a reject of what was not asked for"


def test_late_answers_to_cancels_are_no_breach_however_many_there_were():
    peer = session()
    blocks = [BlockRequest(n % 9, n // 9, 1) for n in range(TAKEN_BACK + 50)]
    peer.request(blocks, 0.0)
    peer.cancel(blocks)

    assert peer.receive_data(reject(*blocks), 0.0) == []
    assert breach(peer, reject(blocks[0])) == "a reject of what was not asked for"


def test_a_cancel_is_told_also_while_we_choke():
    peer = session()

    assert peer.receive_data(wire.encode_cancels([FIRST]), 0.0) == [BlockCancelled(FIRST)]


def test_a_piece_that_the_peer_lost_is_rejected_by_it_not_forgotten():
    peer = session()
    offer = extension.offer(extension.DONT_HAVE)
    peer.send_extended_handshake(ExtendedHandshake(messages=offer))
    peer.receive_data(wire.encode_have(3), 0.0)
    peer.request([FIRST], 0.0)
    lost = wire.encode_extended(offer[extension.DONT_HAVE], b"\0\0\0\3")

    assert peer.receive_data(lost + reject(FIRST), 0.0) == [PeerLost(3, ()), PeerRejected(FIRST)]


# -- pieces that may be asked for while choked


def test_granted_pieces_may_be_asked_for_while_we_choke_twice_at_most(pair):
    pair.two.choke()
    pair.two.grant([3, 7])
    pair.pass_on(pair.two)
    assert pair.one.allowed == {3, 7}
    blocks = list(GEOMETRY.blocks(3))

    for _ in range(2):
        pair.one.request(blocks, 0.0)
        assert pair.pass_on(pair.one) == [BlockRequested(block) for block in blocks]
        for block in blocks:
            pair.two.send_block(block)
        pair.pass_on(pair.two)
    pair.one.request([blocks[0], GEOMETRY.block(2, 0)], 0.0)
    assert pair.pass_on(pair.one) == []
    assert [event.block for event in pair.pass_on(pair.two)] == [blocks[0], GEOMETRY.block(2, 0)]


def test_what_is_asked_for_unchoked_uses_no_grant_up():
    peer = session()
    peer.grant([3])
    peer.unchoke()

    for _ in range(100):
        assert peer.receive_data(wire.encode_requests([FIRST]), 0.0) == [BlockRequested(FIRST)]
    assert peer.granted == {3: 8}


def test_nothing_is_granted_without_the_fast_extension():
    peer = session(fast=False)
    peer.grant([1])

    assert not peer.has_data_to_send
    assert peer.granted == {}


def test_an_allowed_piece_that_is_rejected_while_choked_is_allowed_no_longer():
    peer = session()
    peer.receive_data(wire.encode_allowed_fast([3, 9]), 0.0)
    peer.request([FIRST], 0.0)
    peer.receive_data(reject(FIRST), 0.0)

    assert peer.allowed == {9}


def test_allowed_and_suggested_pieces_that_do_not_exist_are_borne_so_many_times():
    for kind in (13, 17):
        peer = session()
        wrong = wire.encode_allowed_fast([10])[:4] + bytes((kind,)) + b"\0\0\0\x0a"

        assert peer.receive_data(wrong * STRIKES, 0.0) == []
        assert "do not exist" in breach(peer, wrong)


def test_no_more_than_a_few_allowed_pieces_are_noted():
    peer = Session(Geometry(10_000 * 16384, 16384), 0.0, fast=True)
    peer.receive_data(wire.HAVE_NONE + wire.encode_allowed_fast(range(10_000)), 0.0)

    assert len(peer.allowed) == MAX_ALLOWED


def test_a_suggestion_changes_nothing():
    peer = session()

    assert peer.receive_data(b"\0\0\0\5\x0d\0\0\0\3" * 100, 0.0) == []
    assert (peer.peer_has.count, peer.allowed, peer.has_data_to_send) == (0, set(), False)


def test_allowed_fast_does_not_mean_that_the_peer_has_the_piece():
    peer = session()

    assert peer.receive_data(wire.encode_allowed_fast([3]), 0.0) == []
    assert peer.peer_has.count == 0


# -- properties

blocks = st.sampled_from([FIRST, SECOND, LAST])
messages = st.one_of(
    st.sampled_from([wire.CHOKE, wire.UNCHOKE, wire.INTERESTED, wire.HAVE_ALL, wire.HAVE_NONE]),
    st.integers(0, 10).map(wire.encode_have),
    st.lists(st.integers(0, 10), max_size=3).map(wire.encode_allowed_fast),
    blocks.map(piece_message),
    blocks.map(reject),
    blocks.map(lambda block: wire.encode_requests([block])),
    blocks.map(lambda block: wire.encode_cancels([block])),
    st.binary(max_size=20).map(lambda payload: wire.encode_extended(0, payload)),
    st.binary(max_size=20),
)


@given(st.sampled_from(sorted(FIELDS)), st.lists(messages, max_size=25), st.integers(1, 50_000))
@settings(max_examples=100, deadline=None)
def test_the_cut_of_the_bytes_does_not_matter(field, sent, cut):
    def told(cut: int) -> tuple[list[object], bytes]:
        peer = session(told=False)
        peer.grant([3])
        peer.request([FIRST, SECOND, LAST], 0.0)
        peer.cancel([LAST])
        data, events = FIELDS[field] + b"".join(sent), []
        for start in range(0, len(data), cut):
            for event in peer.receive_data(data[start : start + cut], 0.0):
                if isinstance(event, BlockArrived):
                    event = event._replace(data=bytes(event.data))
                events.append(Breached if isinstance(event, Breached) else event)
        return events, output(peer)

    events, said = told(1 << 20)
    assert (events, said) == told(cut)
    assert Breached not in events[:-1]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["request", "cancel", "choke", "unchoke", "answer"]),
            blocks,
            st.booleans(),
        )
    )
)
@settings(max_examples=200, deadline=None)
def test_every_request_gets_exactly_one_answer(steps):
    pair = Pair(GEOMETRY, fast=True)
    pair.two.send_bitfield(Bitfield.full(10))
    pair.one.send_bitfield(Bitfield(10))
    asked, queued = 0, []
    told: list[object] = []

    def exchange() -> None:
        for event in pair.pass_on(pair.one):
            if isinstance(event, BlockRequested):
                queued.append(event.block)
            elif isinstance(event, BlockCancelled) and event.block in queued:
                queued.remove(event.block)
                pair.two.reject([event.block])
        told.extend(pair.pass_on(pair.two))

    exchange()
    for step, block, at_once in steps:
        if step == "request" and block not in pair.one.outstanding:
            pair.one.request([block], 0.0)
            asked += 1
        elif step == "cancel":
            pair.one.cancel([block])
        elif step == "choke":
            pair.two.choke()
            pair.two.reject(queued)
            queued.clear()
        elif step == "unchoke":
            pair.two.unchoke()
        elif queued:
            pair.two.send_block(queued.pop(0))
        if at_once:
            exchange()
    exchange()
    pair.two.choke()
    pair.two.reject(queued)
    exchange()

    assert not any(isinstance(event, Breached) for event in told)
    assert (pair.one.outstanding, pair.one.owed, pair.one._taken_back) == ({}, 0, {})
    known = (PeerBitfield, PeerChoked, PeerUnchoked, PeerRejected, BlockArrived)
    assert all(isinstance(event, known) for event in told)

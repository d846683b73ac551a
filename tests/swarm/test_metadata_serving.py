"""Metadata that is given to others: all of it, twice at most, and only on request."""

from __future__ import annotations

import random

import pytest

from p2pfs.errors import WireError
from p2pfs.formats import extension, ut_metadata, wire
from p2pfs.formats.extension import UT_METADATA, ExtendedHandshake
from p2pfs.formats.ut_metadata import PIECE_LENGTH, Data, Reject
from p2pfs.swarm.bare_session import BareSession
from p2pfs.swarm.metadata_serving import (
    AGAIN_AFTER,
    HOST_COPIES,
    MAX_HOSTS,
    MAX_QUEUED,
    MAX_REJECTED,
    MetadataServing,
)
from p2pfs.swarm.peer import Peer
from tests.swarm.link import output

METADATA = random.Random(9).randbytes(2 * PIECE_LENGTH + 100)


@pytest.fixture
def peer() -> Peer:
    return someone()


def someone(*names: bytes, host: str = "10.0.0.1") -> Peer:
    session = BareSession(0.0, extended=True)
    handshake = ExtendedHandshake(messages=dict.fromkeys(names or (UT_METADATA,), 9))
    session.receive_data(wire.encode_extended(0, extension.encode(handshake)), 0.0)
    return Peer(session, (host, 1), b"x" * 20, 0.0)


def told(peer: Peer) -> list[ut_metadata.Message | None]:
    messages = wire.Decoder(0).feed(output(peer.session))
    return [ut_metadata.parse(one.payload) for one in messages if isinstance(one, wire.Extended)]


def ask(serving: MetadataServing, peer: Peer, *pieces: int, now: float = 0.0) -> None:
    for piece in pieces:
        serving.heard(peer, ut_metadata.encode_request(piece), now)


def serve_all(serving: MetadataServing, peer: Peer) -> int:
    sent = 0
    while length := serving.serve(peer):
        sent += length
    return sent


def test_each_piece_is_given_in_the_order_of_the_requests(peer):
    serving = MetadataServing(METADATA)
    ask(serving, peer, 2, 0, 1)
    assert told(peer) == []  # not before there is room for it

    assert serve_all(serving, peer) == len(METADATA)

    answers = told(peer)
    assert [answer.piece for answer in answers] == [2, 0, 1]
    assert b"".join(one.data for one in sorted(answers)) == METADATA
    assert {one.total_size for one in answers} == {len(METADATA)}


@pytest.mark.parametrize("piece", [3, 1000])
def test_a_piece_that_is_not_there_is_rejected(peer, piece):
    serving = MetadataServing(METADATA)
    ask(serving, peer, piece)

    assert told(peer) == [Reject(piece)]
    assert serving.serve(peer) == 0


def test_all_of_it_is_given_twice_to_each_peer_and_no_more(peer):
    serving, other = MetadataServing(METADATA), someone()
    for _ in range(3):
        ask(serving, peer, 0, 1, 2)
    ask(serving, other, 0)

    assert told(peer) == [Reject(0), Reject(1), Reject(2)]
    assert serve_all(serving, peer) == 2 * len(METADATA)
    assert serving.serve(other) == PIECE_LENGTH


def test_who_comes_back_later_may_have_it_once_more(peer):
    serving = MetadataServing(METADATA)
    ask(serving, peer, 0, 1, 2, 0, 1, 2)
    serve_all(serving, peer)

    ask(serving, peer, 0, 1, 2, 0, now=AGAIN_AFTER)
    assert serve_all(serving, peer) == len(METADATA)

    ask(serving, peer, *[0, 1, 2] * 3, now=1000 * AGAIN_AFTER)
    assert serve_all(serving, peer) == 2 * len(METADATA)


def test_no_more_than_so_much_is_queued(peer):
    metadata = bytes(PIECE_LENGTH * 2 * MAX_QUEUED)
    serving = MetadataServing(metadata)
    ask(serving, peer, *range(MAX_QUEUED + 2))

    assert told(peer) == [Reject(MAX_QUEUED), Reject(MAX_QUEUED + 1)]
    assert serve_all(serving, peer) == MAX_QUEUED * PIECE_LENGTH


def test_who_goes_on_asking_is_closed_at_last(peer):
    serving = MetadataServing(METADATA)
    ask(serving, peer, *[7] * MAX_REJECTED)

    with pytest.raises(WireError, match="too many requests"):
        ask(serving, peer, 7)


def test_who_does_not_take_such_messages_gets_none():
    serving, deaf = MetadataServing(METADATA), someone(b"other")
    ask(serving, deaf, 0, 99)
    serving.serve(deaf)

    assert told(deaf) == []


def test_data_and_rejects_and_what_is_unknown_are_ignored(peer):
    serving = MetadataServing(METADATA)
    for payload in (
        ut_metadata.encode_data(*Data(0, 5, b"x")),
        ut_metadata.encode_reject(0),
        b"d8:msg_typei77ee",
    ):
        serving.heard(peer, payload, 0.0)

    assert told(peer) == []
    assert serving.serve(peer) == 0


def test_junk_closes(peer):
    with pytest.raises(WireError):
        MetadataServing(METADATA).heard(peer, b"junk", 0.0)


def test_whoever_left_is_forgotten(peer):
    serving = MetadataServing(METADATA)
    ask(serving, peer, 0, 1, 2, 0, 1, 2)
    serving.left(peer)
    serving.left(peer)

    assert serving.serve(peer) == 0
    ask(serving, peer, 0)
    assert serving.serve(peer) == PIECE_LENGTH


def test_whoever_comes_back_again_and_again_has_what_its_address_may_have():
    serving, given = MetadataServing(METADATA), 0
    for _ in range(HOST_COPIES):
        again = someone()
        ask(serving, again, 0, 1, 2, 0, 1, 2)
        given += serve_all(serving, again)
        serving.left(again)
    elsewhere, later = someone(host="10.0.0.2"), someone()
    ask(serving, elsewhere, 0)
    ask(serving, later, 0, 1, 2, 0, now=AGAIN_AFTER)

    assert given == HOST_COPIES * len(METADATA)
    assert serving.serve(elsewhere) == PIECE_LENGTH
    assert serve_all(serving, later) == len(METADATA)


def test_a_network_of_one_subscriber_counts_as_one_address():
    serving, given = MetadataServing(METADATA), 0
    for number in range(HOST_COPIES):
        again = someone(host=f"2001:db8::{number:x}")
        ask(serving, again, 0, 1, 2, 0, 1, 2)
        given += serve_all(serving, again)

    assert given == HOST_COPIES * len(METADATA)


def test_what_was_asked_for_and_not_given_is_not_counted_for_the_address():
    serving = MetadataServing(METADATA)
    for _ in range(2 * HOST_COPIES):
        gone = someone()
        ask(serving, gone, 0, 1, 2, 0, 1, 2)
        assert told(gone) == []
        serving.left(gone)


def test_it_is_bounded_how_many_addresses_are_remembered_and_for_how_long():
    serving = MetadataServing(METADATA)
    for number in range(MAX_HOSTS + 10):
        ask(serving, someone(host=f"10.1.{number >> 8}.{number & 255}"), 0)
    assert len(serving._hosts) == MAX_HOSTS

    for _ in range(2):
        ask(serving, someone(), 0, now=HOST_COPIES * AGAIN_AFTER)
    assert len(serving._hosts) == 1


def test_who_was_served_longest_ago_is_next():
    serving, greedy, modest = MetadataServing(METADATA), someone(), someone()
    ask(serving, greedy, 0, 1, 2)
    ask(serving, modest, 0)
    assert serving.waiting == [greedy, modest]

    serving.serve(greedy)
    assert serving.waiting == [modest, greedy]
    serving.serve(modest)
    assert serving.waiting == [greedy]

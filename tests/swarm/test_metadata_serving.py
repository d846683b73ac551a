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


def someone(*names: bytes) -> Peer:
    session = BareSession(0.0, extended=True)
    handshake = ExtendedHandshake(messages=dict.fromkeys(names or (UT_METADATA,), 9))
    session.receive_data(wire.encode_extended(0, extension.encode(handshake)), 0.0)
    return Peer(session, ("10.0.0.1", 1), b"x" * 20, 0.0)


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

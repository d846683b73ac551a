"""The download side of a torrent: what is asked of whom, and what is made of the answers."""

from __future__ import annotations

import random

import pytest

from p2pfs.formats import wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.effects import Close, Completed, Forget, Store, Verify
from p2pfs.swarm.events import BlockArrived, PeerBitfield, PeerChoked, PeerHave
from p2pfs.swarm.leeching import GIVE_UP_AFTER, Leeching
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.picker import STALE_AFTER, PieceState
from p2pfs.swarm.pipeline import SNUB_AFTER
from p2pfs.swarm.session import Session

BLOCKS = 4
RIGHT = [b"1", b"2", b"3", b"4"]  # digests of the four blocks of a piece


class Download:
    """A `Leeching` of some pieces with four blocks each, and peers that say what a test wants."""

    def __init__(self, pieces: int = 6, wanted: str | None = None) -> None:
        self.geometry = Geometry(pieces * BLOCKS * BLOCK_LENGTH, BLOCKS * BLOCK_LENGTH)
        drawn = wanted and Bitfield.of(pieces, (n for n, m in enumerate(wanted) if m == "*"))
        self.leeching = Leeching(self.geometry, Bitfield(pieces), random.Random(1), drawn)
        self.picker = self.leeching.picker
        self.now = 0.0
        self.peers = 0

    def peer(self, has: str = "******", *, unchoked: bool = True) -> Peer:
        """A new peer that has the pieces drawn, and is asked at once if it unchoked us."""
        self.peers += 1
        session = Session(self.geometry, self.now)
        peer = Peer(session, ("10.0.0.1", self.peers), b"%020d" % self.peers, self.now)
        self.leeching.joined(peer)
        field = Bitfield.of(len(has), (n for n, mark in enumerate(has) if mark == "*"))
        self.says(peer, wire.encode_bitfield(field.to_bytes()))
        if unchoked:
            self.says(peer, wire.UNCHOKE)
        return peer

    def says(self, peer: Peer, data: bytes) -> None:
        for event in peer.session.receive_data(data, self.now):
            if isinstance(event, PeerBitfield):
                self.leeching.bitfield(peer, event.has)
            elif isinstance(event, PeerHave):
                self.leeching.has(peer, event.piece)
            elif isinstance(event, PeerChoked):
                self.leeching.choked(peer, event.lost)
            elif isinstance(event, BlockArrived):
                self.leeching.arrived(peer, event)
        self.leeching.top_up(peer, self.now)
        self.leeching.refill(self.now)

    def delivers(self, peer: Peer, *blocks: BlockRequest) -> None:
        for block in blocks:
            self.says(peer, wire.block_header(block) + bytes(block.length))

    def passes(self, seconds: float) -> None:
        """Time passes, with a tick each quarter of a second."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.25
            self.leeching.tick(self.now)

    def effects(self) -> list[object]:
        effects, self.leeching.effects = self.leeching.effects, []
        return effects

    def closed(self) -> list[Peer]:
        return [effect.peer for effect in self.effects() if isinstance(effect, Close)]


def owed(peer: Peer, piece: int | None = None) -> list[BlockRequest]:
    return [b for b in peer.session.outstanding if piece is None or b.piece == piece]


def owed_pieces(peer: Peer) -> set[int]:
    return {block.piece for block in owed(peer)}


def shared_piece(download: Download) -> tuple[Peer, Peer, int]:
    """Two peers of which each gave half of one piece."""
    one = download.peer("*     ")
    blocks = owed(one)
    one_gives, other_gives = blocks[:2], blocks[2:]
    download.delivers(one, *one_gives)
    download.says(one, wire.CHOKE)
    two = download.peer("*     ")
    assert owed(two) == other_gives
    download.delivers(two, *other_gives)
    return one, two, 0


# -- interest


def test_interest_is_shown_in_a_peer_that_has_what_is_needed():
    download = Download()

    assert download.peer("   *  ").session.am_interested
    assert not download.peer("      ").session.am_interested


def test_interest_is_shown_while_choked_too():
    assert Download().peer("*     ", unchoked=False).session.am_interested


def test_a_have_of_a_needed_piece_makes_a_peer_interesting():
    download = Download()
    peer = download.peer("      ")
    download.says(peer, wire.encode_have(2))

    assert peer.session.am_interested
    assert owed_pieces(peer) == {2}


def test_a_have_that_came_with_the_bitfield_is_counted_once():
    download = Download()
    peer = download.peer("*     ", unchoked=False)
    quick = Session(download.geometry, 0.0)
    events = quick.receive_data(wire.encode_bitfield(b"\x80") + wire.encode_have(1), 0.0)
    late = Peer(quick, ("10.0.0.1", 9), b"9" * 20, 0.0)
    download.leeching.joined(late)
    download.leeching.bitfield(late, events[0].has)
    download.leeching.has(late, events[1].piece)

    assert [download.picker.availability(piece) for piece in range(3)] == [2, 1, 0]
    assert (peer.interesting, late.interesting) == (1, 2)


def test_what_is_not_wanted_makes_nobody_interesting():
    download = Download(wanted="  *   ")
    peer = download.peer("** ***")
    assert not peer.session.am_interested

    download.says(peer, wire.encode_have(2))
    assert peer.session.am_interested


def test_interest_ends_with_the_last_piece_that_a_peer_could_give():
    download = Download()
    peer, complete = download.peer("**    "), download.peer()
    for piece in range(2):
        assert peer.session.am_interested
        for source in (peer, complete):
            download.delivers(source, *owed(source, piece))
        download.leeching.verified(piece, ())

    assert not peer.session.am_interested
    assert complete.session.am_interested
    assert complete.interesting == 4


# -- requests


def test_a_choked_peer_is_asked_for_nothing():
    assert owed(Download().peer(unchoked=False)) == []


def test_an_unchoked_peer_is_asked_for_as_much_as_its_pipeline_takes():
    peer = Download().peer()

    assert peer.session.owed == peer.pipeline.depth


def test_what_a_choke_took_back_is_asked_of_others_at_once():
    download = Download(pieces=2)
    one = download.peer("**")
    asked = set(owed(one))
    two = download.peer("**")
    assert owed(two) == []

    download.says(one, wire.CHOKE)

    assert set(owed(two)) == asked


def test_what_a_peer_that_leaves_owed_is_asked_of_others():
    download = Download(pieces=2)
    one, two = download.peer("**"), download.peer("**")
    asked = set(owed(one))

    download.leeching.left(one)
    download.leeching.refill(download.now)

    assert set(owed(two)) == asked
    assert download.picker.availability(0) == 1


def test_in_the_end_game_what_one_delivers_is_cancelled_at_the_other():
    download = Download(pieces=2)
    slow, quick = download.peer("**"), download.peer("**")
    download.passes(1)
    doubled = set(owed(slow)) & set(owed(quick))
    assert doubled

    block = min(doubled)
    download.delivers(quick, block)

    assert block not in owed(slow)
    assert wire.encode_cancels([block]) in b"".join(
        item for item in slow.session.data_to_send() if isinstance(item, bytes)
    )


def two_that_deliver(one_every: float, other_every: float) -> tuple[Download, Peer, Peer]:
    """Two peers, each a block in so many seconds, until the other one owes nothing more."""
    download = Download(pieces=24)
    peers = download.peer("*" * 24), download.peer("*" * 24)
    due = [one_every, other_every]
    while not download.picker.everything_asked or owed(peers[1]):
        number = 0 if due[0] < due[1] else 1
        download.now = max(download.now, due[number])
        due[number] += (one_every, other_every)[number]
        if owed(peers[number]):
            download.delivers(peers[number], owed(peers[number])[0])
        if download.picker.everything_asked and not set(owed(peers[0])).isdisjoint(owed(peers[1])):
            break
    return download, *peers


def test_in_the_end_game_a_peer_takes_over_from_a_much_slower_one():
    _, slow, quick = two_that_deliver(0.4, 0.05)

    assert set(owed(slow)) & set(owed(quick))


def test_in_the_end_game_nothing_is_doubled_where_all_are_equally_quick():
    download, one, other = two_that_deliver(0.1, 0.1)

    assert len(owed(one)) <= 1
    assert owed(other) == []
    assert download.leeching.wasted == 0


def test_a_doubled_block_that_comes_twice_is_waste():
    download = Download(pieces=2)
    slow, quick = download.peer("**"), download.peer("**")
    download.passes(1)
    block = min(set(owed(slow)) & set(owed(quick)))
    download.delivers(quick, block)
    download.delivers(slow, block)

    assert (slow.wasted, quick.wasted) == (BLOCK_LENGTH, 0)
    assert download.leeching.wasted == BLOCK_LENGTH


# -- peers that owe blocks


def test_a_peer_that_owes_blocks_for_twenty_seconds_is_snubbed_and_others_are_asked():
    download = Download()
    stalls = download.peer("***   ")
    other = download.peer("***   ", unchoked=False)
    asked = set(owed(stalls))
    download.passes(SNUB_AFTER - 0.5)
    assert not stalls.pipeline.snubbed

    download.passes(0.5)
    assert stalls.pipeline.snubbed
    assert len(owed(stalls)) == 1
    download.says(other, wire.UNCHOKE)
    assert asked <= set(owed(other))


def test_a_snubbed_peer_that_delivers_again_is_asked_again():
    download = Download()
    stalls = download.peer()
    download.passes(SNUB_AFTER)

    download.delivers(stalls, *owed(stalls))

    assert not stalls.pipeline.snubbed
    assert stalls.session.owed == stalls.pipeline.depth > 1


def test_whoever_is_silent_for_minutes_and_alone_gives_everything_once_it_goes_on():
    download = Download(pieces=2)
    alone = download.peer("**")
    download.passes(SNUB_AFTER + 5 * GIVE_UP_AFTER)
    assert len(owed(alone)) == 1

    while blocks := owed(alone):
        download.delivers(alone, *blocks)

    assert [download.picker.state(piece) for piece in range(2)] == [PieceState.CHECKING] * 2


def test_a_piece_kept_for_a_peer_that_stalls_is_finished_by_another():
    download = Download(pieces=1)
    one, two, piece = shared_piece(download)
    download.leeching.rejected(piece, [b"x", *RIGHT[1:]])
    download.leeching.refill(download.now)
    assert len(owed(two)) == BLOCKS, "all of it from one"
    download.delivers(two, *owed(two)[:3])
    download.says(one, wire.UNCHOKE)
    assert owed(one) == []

    download.passes(SNUB_AFTER + STALE_AFTER)

    assert len(owed(one)) == 1
    download.delivers(one, *owed(one))
    assert download.picker.state(piece) is PieceState.CHECKING


@pytest.mark.parametrize("how", ["chokes", "leaves"])
def test_a_piece_kept_for_a_peer_that_gives_no_more_is_finished_by_another_suspect(how):
    download = Download(pieces=1)
    one, two, piece = shared_piece(download)
    download.leeching.rejected(piece, [b"x", *RIGHT[1:]])
    download.leeching.refill(download.now)
    download.delivers(two, *owed(two)[:2])
    if how == "chokes":
        download.says(two, wire.CHOKE)
    else:
        download.leeching.left(two)
    download.says(one, wire.UNCHOKE)
    download.passes(1)

    assert len(owed(one)) == 2


# -- arrivals


def test_a_block_is_stored_and_a_whole_piece_verified():
    download = Download()
    peer = download.peer("*     ")
    blocks = owed(peer)
    download.delivers(peer, *blocks)

    *stores, verify = download.effects()
    assert [effect.block for effect in stores] == blocks
    assert all(isinstance(effect, Store) for effect in stores)
    assert verify == Verify(0, digests=False)


def test_the_download_is_complete_with_its_last_wanted_piece():
    download = Download(wanted="**    ")
    peer = download.peer()
    for piece in range(2):
        assert not download.leeching.finished
        download.delivers(peer, *owed(peer, piece))
        download.effects()
        download.leeching.verified(piece, ())

    assert download.leeching.finished
    assert download.effects() == [Completed()]


def test_what_is_verified_without_having_been_checked_changes_nothing():
    download = Download()
    download.leeching.verified(0, ())
    download.leeching.rejected(0, RIGHT)

    assert download.picker.remaining == 6
    assert download.leeching.hash_failures == 0


# -- blame


def test_a_peer_that_gave_a_whole_bad_piece_is_closed_and_banned():
    download = Download()
    liar = download.peer("*     ")
    download.delivers(liar, *owed(liar))
    download.effects()

    download.leeching.rejected(0, [b"x"] * 4)

    assert download.effects() == [Close(liar, "sent data that fails the hash", banned=True)]
    assert download.leeching.hash_failures == 1
    assert download.leeching.wasted == BLOCKS * BLOCK_LENGTH


def test_of_those_who_shared_a_bad_piece_only_the_liar_is_banned_once_it_passes():
    download = Download(pieces=1)
    liar, honest, piece = shared_piece(download)
    download.leeching.rejected(piece, [b"x", *RIGHT[1:]])
    download.leeching.refill(download.now)
    assert download.closed() == []

    download.delivers(honest, *owed(honest))
    assert Verify(piece, digests=True) in download.effects()
    download.leeching.verified(piece, RIGHT)

    assert download.closed() == [liar]


def test_a_liar_that_has_left_is_banned_all_the_same():
    download = Download(pieces=1)
    liar, honest, piece = shared_piece(download)
    download.leeching.rejected(piece, [b"x", *RIGHT[1:]])
    download.leeching.left(liar)
    download.leeching.refill(download.now)
    download.delivers(honest, *owed(honest))
    download.leeching.verified(piece, RIGHT)

    assert Close(liar, "sent data that fails the hash", banned=True) in download.effects()


def test_a_suspect_is_given_whole_pieces_until_it_is_cleared():
    download = Download()
    one, _, piece = shared_piece(download)
    download.leeching.rejected(piece, [b"x", *RIGHT[1:]])
    download.says(one, wire.encode_have(1) + wire.encode_have(2) + wire.UNCHOKE)
    other = download.peer(" ***  ")

    assert owed_pieces(one)
    assert not owed_pieces(one) & owed_pieces(other)


# -- the disk


def test_while_suspended_nothing_is_asked_for_and_every_request_is_taken_back():
    download = Download()
    peer = download.peer()

    download.leeching.suspend()
    assert owed(peer) == []
    download.passes(1)
    assert owed(peer) == []

    download.leeching.resume()
    download.passes(0.25)
    assert len(owed(peer)) == peer.pipeline.depth


def test_a_piece_that_could_not_be_written_is_wanted_again_and_nobody_blamed():
    download = Download()
    peer = download.peer("*     ")
    download.delivers(peer, *owed(peer))
    download.effects()

    download.leeching.write_failed(0)

    assert download.picker.state(0) is PieceState.OPEN
    assert download.leeching.suspended
    assert download.closed() == []


def test_a_piece_in_progress_whose_blocks_were_lost_is_fetched_whole():
    download = Download()
    peer = download.peer("*     ")
    download.delivers(peer, *owed(peer)[:2])
    download.effects()

    download.leeching.abandon(0)
    download.leeching.abandon(1)

    assert download.effects() == [Forget(0)]
    assert download.picker.state(0) is PieceState.OPEN

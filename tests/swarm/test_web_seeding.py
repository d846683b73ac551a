"""What web seeds are asked for, and which of their answers count."""

from __future__ import annotations

import random

import pytest

from p2pfs.formats import wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH, Geometry
from p2pfs.storage.layout import Layout
from p2pfs.swarm.effects import Close, Store, Verify
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.picker import STALE_AFTER
from p2pfs.swarm.session import Session
from p2pfs.swarm.transfer import Transfer
from p2pfs.swarm.web_seed import FIRST_RETRY_AFTER_REFUSAL, Span, WebSeed
from p2pfs.swarm.web_seeding import MAX_LACKING, Answer, WebSeeding
from p2pfs.swarm.web_spans import FIRST_SPAN, LINES, MAX_LINES, MAX_SPAN, SPAN_SECONDS, Part

PIECE = 16 * BLOCK_LENGTH
MIB = 1024 * 1024
NOTHING = bytes(PIECE)


class Torrent:
    """A torrent with some web seeds, peers, and a clock. Content is zeros; pieces are 256 KiB."""

    def __init__(
        self, *lengths: int, seeds: int = 1, have: str = "", padding: tuple[int, ...] = ()
    ) -> None:
        self.geometry = Geometry(sum(lengths), PIECE)
        count = self.geometry.piece_count
        had = Bitfield.of(count, (n for n, mark in enumerate(have) if mark == "*"))
        self.transfer = Transfer(self.geometry, had, random.Random(1))
        self.picker = self.transfer.leeching.picker
        self.layout = Layout(lengths, self.geometry)
        self.now = 0.0
        self.seeds = [WebSeed(f"http://h{n}/", f"h{n}", count, 0.0) for n in range(seeds)]
        self.web = WebSeeding(
            self.transfer, self.geometry, self.layout, padding, self.seeds, random.Random(1)
        )
        self.seed = self.seeds[0]

    def peer(self, has: str, *, choking: bool = False) -> Peer:
        """A peer with the pieces drawn, which is asked at once unless it chokes."""
        session = Session(self.geometry, self.now)
        number = len(self.transfer.peers) + 1
        peer = Peer(session, ("10.0.0.1", number), b"%020d" % number, self.now)
        self.transfer.peers.append(peer)
        self.transfer.leeching.joined(peer)
        self.transfer.serving.joined(peer)
        field = Bitfield.of(len(has), (n for n, mark in enumerate(has) if mark == "*"))
        said = wire.encode_bitfield(field.to_bytes()) + (b"" if choking else wire.UNCHOKE)
        self.transfer.receive(peer, session.receive_data(said, self.now), self.now)
        return peer

    def span(self, seed: WebSeed | None = None) -> Span:
        span = self.web.next_span(seed or self.seed, self.now)
        assert span is not None
        return span

    def spans(self, seed: WebSeed | None = None) -> list[Span]:
        """As many as are begun at this moment."""
        found = []
        while (span := self.web.next_span(seed or self.seed, self.now)) is not None:
            found.append(span)
        return found

    def part(self, span: Span) -> Part:
        part = self.web.next_part(span)
        assert part is not None
        return part

    def answers(self, span: Span, answer: Answer) -> int | None:
        return self.web.answered(span, self.part(span), answer, self.now)

    def gives(self, span: Span, seconds: float = 0.0) -> None:
        """All of a span comes, in that time, and passes its hash."""
        self.now += seconds
        while (part := self.web.next_part(span)) is not None:
            place = part.place
            while place < part.place + part.length:
                count = min(64 * 1024, part.place + part.length - place)
                wanted = self.web.received(span, place, memoryview(bytes(count)), self.now)
                self.hashes()
                place += count
                if not wanted:
                    break
            else:
                continue
            break
        self.web.ended(span, self.now)

    def hashes(self, *wrong: int) -> list[object]:
        """Whatever is complete passes its hash, but for these pieces; the other effects."""
        rest = []
        for effect in self.transfer.take_effects():
            if not isinstance(effect, Verify):
                rest.append(effect)
            elif effect.piece in wrong:
                self.transfer.rejected(effect.piece, [b"?"] * 16, self.now)
            else:
                digests = [b"right"] * 16 if effect.digests else []
                self.transfer.verified(effect.piece, digests, self.now)
        return rest + self.transfer.take_effects()


def pieces(span: Span) -> list[int]:
    return sorted({block.piece for block in span.blocks})


def right(part: Part, total: int) -> Answer:
    last = part.offset + part.length - 1
    return Answer(206, f"bytes {part.offset}-{last}/{total}", part.length)


# -- what is asked for


def test_the_first_span_is_of_modest_size_and_comes_alone() -> None:
    torrent = Torrent(64 * MIB)

    (span,) = torrent.spans()

    assert span.owed == FIRST_SPAN
    assert pieces(span) == list(range(pieces(span)[0], pieces(span)[0] + 4))


def test_a_web_seed_that_gave_something_gets_a_second_connection() -> None:
    torrent = Torrent(64 * MIB)
    torrent.gives(torrent.span(), 0.5)

    assert len(torrent.spans()) == LINES


def test_all_web_seeds_together_have_a_few_connections() -> None:
    torrent = Torrent(64 * MIB, seeds=9)

    assert sum(len(torrent.spans(seed)) for seed in torrent.seeds) == MAX_LINES


def test_a_span_is_what_a_web_seed_sends_in_a_few_seconds() -> None:
    torrent = Torrent(256 * MIB)
    torrent.gives(torrent.span(), 0.5)
    assert torrent.seed.pace == 2 * MIB
    assert torrent.span().owed == 2 * MIB * SPAN_SECONDS

    torrent.seed.pace = 1e9
    assert torrent.span().owed == MAX_SPAN


def test_a_slow_web_seed_is_asked_for_a_piece_at_least() -> None:
    torrent = Torrent(64 * MIB)
    torrent.seed.pace = 100.0

    assert torrent.span().owed == PIECE


def test_peers_that_give_leave_a_web_seed_its_share_only() -> None:
    torrent = Torrent(16 * PIECE)
    for _ in range(3):
        torrent.peer("*" * 16)
    torrent.seed.pace = 1e9

    assert torrent.span().owed <= 16 * PIECE / 4


def test_peers_that_choke_do_not_count_as_helpers() -> None:
    torrent = Torrent(16 * PIECE)
    torrent.peer("*" * 16, choking=True)
    torrent.seed.pace = 1e9

    assert torrent.span().owed == 16 * PIECE


def test_what_no_peer_has_comes_first() -> None:
    torrent = Torrent(16 * PIECE)
    torrent.peer("*" * 12 + " " * 4, choking=True)
    torrent.seed.pace = 1e9

    assert pieces(torrent.span()) == [12, 13, 14, 15]


def test_the_next_span_goes_on_where_the_last_one_ended() -> None:
    torrent = Torrent(256 * PIECE)
    first = torrent.span()
    end = pieces(first)[-1]
    torrent.gives(first, 1.0)

    assert pieces(torrent.span())[0] == end + 1


def test_nothing_is_asked_while_the_disk_cannot_take_it_nor_after_the_end() -> None:
    torrent = Torrent(PIECE)
    torrent.transfer.leeching.suspend()
    assert torrent.spans() == []
    torrent.transfer.leeching.resume()
    torrent.gives(torrent.span(), 1.0)

    assert torrent.transfer.finished
    assert torrent.spans() == []


def test_a_span_is_given_up_when_the_disk_cannot_take_it() -> None:
    torrent = Torrent(4 * PIECE)
    span = torrent.span()
    place, _ = span.next_run()
    torrent.transfer.leeching.suspend()

    assert not torrent.web.received(span, place, memoryview(NOTHING), 0.0)
    torrent.web.ended(span, 0.0)
    assert not torrent.picker.everything_asked


def test_what_is_left_of_a_span_goes_to_peers_at_once() -> None:
    torrent = Torrent(4 * PIECE)
    span = torrent.span()
    assert torrent.picker.everything_asked
    peer = torrent.peer("****")
    assert peer.session.owed == 0
    torrent.web.ended(span, torrent.now)

    assert peer.session.owed > 0


def test_late_blocks_of_a_dead_slow_peer_are_asked_of_a_web_seed() -> None:
    torrent = Torrent(PIECE)
    peer = torrent.peer("*")
    assert torrent.picker.everything_asked or peer.session.owed
    peer.pipeline._depth = 16
    torrent.transfer.leeching.top_up(peer, 0.0)
    assert peer.session.owed == 16
    torrent.now = STALE_AFTER + 1

    span = torrent.span()

    assert span.owed == PIECE


def test_peers_take_over_what_a_slow_web_seed_owes_the_end_first() -> None:
    torrent = Torrent(4 * PIECE)
    torrent.seed.pace = 100.0 * PIECE
    span = torrent.span()
    assert pieces(span) == [0, 1, 2, 3]
    torrent.seed.pace = 100.0
    torrent.now = 1.0
    peer = torrent.peer("****")

    assert {block.piece for block in peer.session.outstanding} == {3}


def test_peers_leave_a_quick_web_seed_what_it_owes() -> None:
    torrent = Torrent(4 * PIECE)
    torrent.seed.pace = 100.0 * PIECE
    torrent.span()
    torrent.now = 1.0

    assert torrent.peer("****").session.owed == 0


# -- files


def test_a_span_is_asked_for_as_ranges_of_files() -> None:
    torrent = Torrent(100, 0, 2 * PIECE, 50)
    torrent.seed.pace = 1e9
    span = torrent.span()
    asked = []
    while (part := torrent.web.next_part(span)) is not None:
        asked.append(part)
        torrent.web.received(span, part.place, memoryview(bytes(part.length)), 0.0)

    assert asked == [
        Part(0, 0, 100, 0, False),
        Part(2, 0, 2 * PIECE, 100, False),
        Part(3, 0, 50, 2 * PIECE + 100, False),
    ]


def test_padding_is_a_part_that_nobody_is_asked_for() -> None:
    torrent = Torrent(100, PIECE - 100, PIECE, padding=(1,))
    span = torrent.span()
    torrent.web.received(span, 0, memoryview(bytes(100)), 0.0)

    assert torrent.part(span) == Part(1, 0, PIECE - 100, 100, True)


def test_what_comes_is_stored_and_checked_like_a_peers_blocks() -> None:
    torrent = Torrent(PIECE)
    span = torrent.span()

    wanted = torrent.web.received(span, 0, memoryview(NOTHING), 0.0)

    stores = torrent.transfer.take_effects()
    assert sum(len(one.data) for one in stores if isinstance(one, Store)) == PIECE
    assert stores[-1] == Verify(0, False)
    assert not wanted
    assert torrent.seed.down.total == PIECE


def test_the_rest_of_a_span_that_others_have_given_meanwhile_is_not_waited_for() -> None:
    torrent = Torrent(64 * PIECE, have="*" * 60)
    torrent.seed.pace = 1e9
    span = torrent.span()
    place, _ = span.next_run()
    for piece in pieces(span):
        for block in torrent.geometry.blocks(piece):
            torrent.picker.arrived("other", block)

    asked_for_more = [
        torrent.web.received(span, place + n * 1000, memoryview(bytes(1000)), 0.0)
        for n in range(20)
    ]

    assert not all(asked_for_more)


# -- which answers count


def test_the_range_that_was_asked_for_is_content() -> None:
    torrent = Torrent(8 * PIECE, have="*")
    span = torrent.span()
    part = torrent.part(span)

    assert part.offset >= PIECE
    assert torrent.answers(span, right(part, 8 * PIECE)) == part.offset
    assert torrent.seed.problem == ""


def test_a_total_that_is_not_told_is_no_obstacle() -> None:
    torrent = Torrent(8 * PIECE)
    span = torrent.span()
    first, last = torrent.part(span).offset, torrent.part(span).offset + span.owed - 1

    assert torrent.answers(span, Answer(206, f"bytes {first}-{last}/*")) == first


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(206), "another part"),
        (Answer(206, "bytes 0-0/2097152"), "another part"),
        (Answer(206, "bytes 1-1048576/2097152"), "another part"),
        (Answer(206, "bytes 0-1048575/2097152", 5), "more or less"),
        (Answer(206, "bytes 0-1048575/2097152", 1048576, "gzip"), "packed"),
        (Answer(206, "bytes 0-1048575/99999999", 1048576), "of 99999999 bytes"),
        (Answer(200, "", 17), "of 17 bytes"),
        (Answer(200, "", 2097152, "br"), "packed"),
        (Answer(204), "status 204"),
        (Answer(404), "status 404"),
        (Answer(416), "status 416"),
        (Answer(500), "status 500"),
        (Answer(999), "status 999"),
    ],
)
def test_any_other_answer_is_none_and_makes_the_web_seed_wait(answer: Answer, why: str) -> None:
    torrent = Torrent(8 * PIECE)
    torrent.seed.next_pieces.append(0)
    span = torrent.span()
    assert torrent.part(span)[:3] == (0, 0, 1048576)

    assert torrent.answers(span, answer) is None
    torrent.web.ended(span, 0.0)

    assert why in torrent.seed.problem
    assert torrent.spans() == []
    assert torrent.picker.unavailable() == list(range(8))


def test_a_refusal_is_remembered_longer_than_an_overload() -> None:
    torrent = Torrent(PIECE)
    torrent.answers(torrent.span(), Answer(403))
    assert torrent.seed.retry_at >= 0.8 * FIRST_RETRY_AFTER_REFUSAL

    torrent = Torrent(PIECE)
    torrent.answers(torrent.span(), Answer(503))
    assert torrent.seed.retry_at < 2
    torrent.seed.retry_at = 0.0
    torrent.answers(torrent.seed.spans[0], Answer(503, retry_after=30.0))
    assert torrent.seed.retry_at == 30.0


def test_the_whole_file_is_content_where_it_is_small_or_wanted_whole() -> None:
    torrent = Torrent(4 * PIECE)
    span = torrent.span()

    assert torrent.part(span).length == 4 * PIECE
    assert torrent.answers(span, Answer(200, "", 4 * PIECE)) == 0
    assert torrent.seed.ranges


def test_the_beginning_of_a_whole_file_is_passed_over_for_a_bit() -> None:
    torrent = Torrent(64 * PIECE, have="**")
    torrent.seed.next_pieces.append(2)
    span = torrent.span()

    assert torrent.answers(span, Answer(200, "", 64 * PIECE)) == 0
    assert not torrent.seed.ranges


def test_the_middle_of_a_whole_file_is_not_waited_for() -> None:
    torrent = Torrent(64 * PIECE)
    torrent.seed.next_pieces.append(32)
    span = torrent.span()

    assert torrent.answers(span, Answer(200, "", 64 * PIECE)) is None
    torrent.web.ended(span, 0.0)

    whole = torrent.span()
    assert torrent.part(whole) == Part(0, 0, 64 * PIECE, 0, False)


# -- servers that do not heed ranges


def whole_only(*lengths: int, **options: object) -> Torrent:
    torrent = Torrent(*lengths, **options)
    torrent.seed.ranges = False
    return torrent


def test_a_whole_file_is_asked_for_bit_by_bit_so_that_peers_have_the_rest() -> None:
    torrent = whole_only(64 * PIECE)
    span = torrent.span()

    assert span.owed == MIB
    assert torrent.peer("*" * 64).session.owed > 0
    assert torrent.spans() == []


def test_a_whole_file_comes_in_one_go_over_what_is_had() -> None:
    torrent = whole_only(64 * PIECE, have="*" * 10 + " " * 20 + "*" * 10)
    span = torrent.span()

    torrent.gives(span, 1.0)

    assert torrent.transfer.finished
    assert torrent.seed.down.total == 44 * PIECE


def test_files_come_one_after_the_other_where_pieces_span_them() -> None:
    torrent = whole_only(3 * PIECE + 100, 5 * PIECE, 7)
    span = torrent.span()

    torrent.gives(span, 1.0)

    assert torrent.transfer.finished


def test_a_large_file_of_which_little_is_wanted_is_left_to_peers() -> None:
    torrent = whole_only(64 * PIECE, have="*" * 60)
    torrent.peer(" " * 60 + "*" * 4)
    assert torrent.spans() == []

    alone = whole_only(64 * PIECE, have="*" * 60)
    assert len(alone.spans()) == 1


# -- files that are not there


def test_a_missing_file_takes_its_pieces_from_the_web_seed_and_no_others() -> None:
    torrent = Torrent(4 * PIECE, 4 * PIECE)
    torrent.seed.next_pieces.append(5)
    span = torrent.span()
    assert torrent.part(span).file == 1

    assert torrent.answers(span, Answer(404)) is None
    torrent.web.ended(span, 0.0)

    assert torrent.picker.unavailable() == [4, 5, 6, 7]
    assert pieces(torrent.span()) == [0, 1, 2, 3]


def test_too_many_missing_files_look_like_a_web_seed_that_has_nothing() -> None:
    torrent = Torrent(*[PIECE] * 20)
    for _ in range(MAX_LACKING):
        span = torrent.span()
        torrent.answers(span, Answer(404))
        torrent.web.ended(span, 0.0)
        assert torrent.seed.may_be_asked(0.0)
    span = torrent.span()
    torrent.answers(span, Answer(404))
    torrent.web.ended(span, 0.0)

    assert not torrent.seed.may_be_asked(1.0)
    assert torrent.seed.may_be_asked(1e6)


# -- wrong bytes


def test_a_piece_that_it_gave_alone_is_proof_against_a_web_seed() -> None:
    torrent = Torrent(PIECE)
    span = torrent.span()
    torrent.web.received(span, 0, memoryview(NOTHING), 0.0)
    torrent.hashes(0)
    torrent.web.ended(span, 0.0)

    assert torrent.seed.disabled
    assert torrent.spans() == []
    assert torrent.picker.unavailable() == [0]


def test_a_piece_that_it_shared_is_no_proof_until_the_piece_is_known() -> None:
    torrent = Torrent(PIECE, seeds=2)
    bad, good = torrent.seeds
    peer = torrent.peer("*")
    asked = list(peer.session.outstanding)
    assert 0 < peer.session.owed < 16
    span = torrent.span(bad)
    for block in asked:  # the peer gives what it owes, the web seed the rest
        said = wire.block_header(block) + bytes(block.length)
        events = peer.session.receive_data(said, 0.0)
        peer.pipeline.snubbed = True
        torrent.transfer.receive(peer, events, 0.0)
    while (part := torrent.web.next_part(span)) is not None:
        torrent.web.received(span, part.place, memoryview(bytes(part.length)), 0.0)
    torrent.web.ended(span, 0.0)
    torrent.transfer.rejected(0, [b"right"] * 15 + [b"wrong"], 0.0)
    torrent.transfer.take_effects()
    assert not bad.disabled
    assert torrent.transfer.leeching.is_suspect(bad)

    torrent.transfer.leave(peer, 0.0)
    torrent.gives(torrent.span(good))

    assert bad.disabled
    assert not good.disabled
    assert not any(isinstance(effect, Close) for effect in torrent.transfer.take_effects())


def test_a_disabled_web_seed_is_not_listened_to_any_more() -> None:
    torrent = Torrent(8 * PIECE)
    span = torrent.span()
    torrent.seed.disable("wrong bytes")

    place, _ = span.next_run()
    assert not torrent.web.received(span, place, memoryview(NOTHING), 0.0)
    assert torrent.seed.down.total == 0

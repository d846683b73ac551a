"""Which blocks to ask a source for. Pieces have four blocks unless a test says otherwise and
are drawn as a string: `.` not wanted, `o` open, `-` in progress, `?` being checked, `*` had;
availability as digits, `"2223333"`; what a source has as `"* * *  "`."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry, blocks_in
from p2pfs.swarm.picker import LATE_AFTER, MAX_ASKERS, STALE_AFTER, Picker, PieceState

MARKS = {
    PieceState.NOT_WANTED: ".",
    PieceState.OPEN: "o",
    PieceState.IN_PROGRESS: "-",
    PieceState.CHECKING: "?",
    PieceState.HAD: "*",
}
A, B, C = "a", "b", "c"


def pieces(drawn: str, mark: str = "*") -> Bitfield:
    return Bitfield.of(len(drawn), (n for n, m in enumerate(drawn) if m == mark))


def make(drawn: str, availability: str = "", *, blocks: int = 4, seed: int = 1) -> Picker:
    """A picker whose pieces are open, had or not wanted as drawn."""
    geometry = Geometry(len(drawn) * blocks * BLOCK_LENGTH, blocks * BLOCK_LENGTH)
    wanted = Bitfield.of(len(drawn), (n for n, m in enumerate(drawn) if m != "."))
    picker = Picker(geometry, pieces(drawn), random.Random(seed), wanted)
    for piece, count in enumerate(availability):
        for _ in range(int(count)):
            picker.source_has(piece)
    return picker


def draw(picker: Picker) -> str:
    return "".join(MARKS[state] for state in picker._state)


def everything(picker: Picker) -> Bitfield:
    return Bitfield.full(len(picker._state))


def pick(picker: Picker, source: str, count: int, now: float = 0.0, **options) -> list:
    has = options.pop("has", everything(picker))
    return picker.pick(source, has, count, now, **options)


def again(picker: Picker, source: str, count: int, now: float) -> list:
    return picker.pick_again(source, everything(picker), count, now)


def begun(blocks: list[BlockRequest]) -> list[int]:
    """The pieces of `blocks`, each once, in order."""
    return list(dict.fromkeys(block.piece for block in blocks))


def block(piece: int, number: int, count: int = 1) -> BlockRequest:
    return BlockRequest(piece, number * BLOCK_LENGTH, count * BLOCK_LENGTH)


def deliver(picker: Picker, source: str, *requests: BlockRequest) -> None:
    for request in requests:
        assert picker.arrived(source, request).wanted == (request,)


# -- which pieces


def test_a_picker_wants_what_is_wanted_and_not_had():
    picker = make("o*.o")

    assert draw(picker) == "o*.o"
    assert picker.remaining == 2
    assert [picker.is_needed(piece) for piece in range(4)] == [True, False, False, True]
    assert picker.needed_of(pieces("****")) == 2


def test_the_rarest_piece_is_begun_first():
    assert begun(pick(make("ooooo", "32142"), A, 20)) in ([2, 1, 4, 0, 3], [2, 4, 1, 0, 3])


def test_among_equally_rare_pieces_the_choice_is_random():
    first = Counter(begun(pick(make("oooo", "2222", seed=seed), A, 1))[0] for seed in range(400))

    assert set(first) == {0, 1, 2, 3}
    assert max(first.values()) < 2 * min(first.values())


def test_a_source_is_only_asked_for_what_it_has():
    picker = make("ooooo", "21111")

    assert begun(pick(picker, A, 99, has=pieces("*  * "))) == [3, 0]
    assert pick(picker, B, 99, has=pieces("     ")) == []


def test_a_piece_that_was_begun_is_finished_before_another_is_begun():
    picker = make("oooo", "1222")
    pick(picker, A, 2, has=pieces("   *"))

    assert begun(pick(picker, B, 4)) == [3, 0]


def test_the_blocks_of_a_piece_are_asked_for_in_order_and_once():
    picker = make("o")

    assert pick(picker, A, 3) == [block(0, 0), block(0, 1), block(0, 2)]
    assert pick(picker, B, 3) == [block(0, 3)]
    assert pick(picker, A, 3) == []
    assert draw(picker) == "-"


def test_neither_more_blocks_nor_more_pieces_are_begun_than_asked_for():
    picker = make("oooo")

    assert len(pick(picker, A, 5)) == 5
    assert draw(picker).count("-") == 2


def test_nothing_is_picked_of_pieces_that_are_had_or_not_wanted():
    assert pick(make("*.*."), A, 99) == []


def test_the_last_block_of_the_last_piece_is_as_short_as_it_is():
    picker = Picker(Geometry(5 * BLOCK_LENGTH + 7, 4 * BLOCK_LENGTH), Bitfield(2), random.Random(1))
    picked = pick(picker, A, 99)

    assert BlockRequest(1, BLOCK_LENGTH, 7) in picked
    assert sum(request.length for request in picked) == 5 * BLOCK_LENGTH + 7


def test_a_torrent_without_pieces_has_nothing_left():
    picker = Picker(Geometry(0, BLOCK_LENGTH), Bitfield(0), random.Random(1))

    assert picker.remaining == 0
    assert pick(picker, A, 5) == []


# -- runs of blocks


def test_a_request_may_cover_a_run_of_blocks_of_one_piece():
    assert pick(make("o", blocks=8), A, 8, run=4) == [block(0, 0, 4), block(0, 4, 4)]


def test_a_run_is_no_longer_than_the_count():
    assert pick(make("o", blocks=8), A, 3, run=4) == [block(0, 0, 3)]


def test_a_run_does_not_leap_over_blocks_that_others_were_asked_for():
    picker = make("o", blocks=8)
    taken = pick(picker, A, 6)
    picker.released(A, [taken[0], taken[1], taken[3]])

    assert pick(picker, B, 8, run=4) == [block(0, 0, 2), block(0, 3, 1), block(0, 6, 2)]


def test_of_a_run_that_was_partly_delivered_by_another_only_the_rest_is_wanted():
    picker = make("o", blocks=8)
    (run,) = pick(picker, A, 8, run=8)
    picker.released(A, [run])
    pick(picker, B, 4)
    deliver(picker, B, block(0, 1), block(0, 2))

    arrival = picker.arrived(A, run)

    assert arrival.wanted == (block(0, 0), block(0, 3, 5))
    assert (arrival.complete, arrival.also_asked) == (True, (B,))
    assert picker.givers(0) == [A, B, B, A, A, A, A, A]


def test_a_short_last_block_inside_a_run_keeps_its_length():
    picker = Picker(Geometry(3 * BLOCK_LENGTH + 5, 4 * BLOCK_LENGTH), Bitfield(1), random.Random(1))
    (run,) = pick(picker, A, 4, run=4)
    picker.released(A, [run])
    pick(picker, B, 1)
    deliver(picker, B, block(0, 0))

    assert run.length == 3 * BLOCK_LENGTH + 5
    assert picker.arrived(A, run).wanted == (BlockRequest(0, BLOCK_LENGTH, run.length - 16384),)


# -- what comes of requests


def test_a_piece_whose_blocks_all_came_is_checked_and_then_had():
    picker = make("oo", "12")
    blocks = pick(picker, A, 4)
    deliver(picker, A, *blocks[:3])
    assert draw(picker) == "-o"

    arrival = picker.arrived(A, blocks[3])
    assert (arrival.wanted, arrival.complete) == ((blocks[3],), True)
    assert draw(picker) == "?o"
    assert picker.givers(0) == [A, A, A, A]

    picker.verified(0)
    assert (draw(picker), picker.remaining) == ("*o", 1)


def test_a_piece_being_checked_takes_and_gives_no_blocks():
    picker = make("o")
    blocks = pick(picker, A, 4)
    deliver(picker, A, *blocks)

    assert picker.arrived(B, blocks[0]).wanted == ()
    assert pick(picker, B, 4) == []
    assert again(picker, B, 4, 99.0) == []


def test_released_blocks_are_given_to_others_first_of_all():
    picker = make("ooo", "123")
    blocks = pick(picker, A, 4)
    picker.released(A, blocks[1:3])

    assert pick(picker, B, 3) == [*blocks[1:3], block(1, 0)]


def test_a_late_block_is_taken_where_it_is_still_missing_and_not_asked_for_again():
    picker = make("o")
    blocks = pick(picker, A, 4)
    picker.released(A, blocks)

    deliver(picker, A, blocks[0])

    assert pick(picker, B, 9) == blocks[1:]


def test_a_block_that_is_there_already_is_not_wanted():
    picker = make("o")
    blocks = pick(picker, A, 4)
    deliver(picker, A, blocks[0])

    assert picker.arrived(B, blocks[0]).wanted == ()
    assert not picker.is_missing(blocks[0])
    assert picker.is_missing(blocks[1])
    assert picker.is_missing(block(0, 0, 2))


def test_blocks_of_pieces_that_are_not_in_progress_are_not_wanted():
    picker = make("o*.")

    assert [picker.arrived(A, block(piece, 0)).wanted for piece in (0, 1, 2, 7)] == [()] * 4
    assert not picker.is_missing(block(0, 0))


def test_releasing_what_was_never_asked_for_changes_nothing():
    picker = make("oo")
    blocks = pick(picker, A, 4)
    picker.released(B, blocks)
    picker.released(A, [block(1, 0), block(7, 0)])

    assert begun(pick(picker, C, 4)) != begun(blocks)


# -- pieces that failed


def failed(picker: Picker, piece_count: int = 1) -> None:
    """Piece 0 came from A and B, and was wrong."""
    has = Bitfield.of(piece_count, [0])
    deliver(picker, A, *pick(picker, A, 2, has=has))
    deliver(picker, B, *pick(picker, B, 2, has=has))
    picker.rejected(0)


def test_a_piece_that_failed_is_open_again():
    picker = make("oo", "11")
    failed(picker, 2)

    assert draw(picker) == "oo"
    assert picker.remaining == 2


def test_a_piece_that_failed_is_asked_of_one_source_alone():
    picker = make("o")
    failed(picker)

    assert pick(picker, A, 1) == [block(0, 0)]
    assert pick(picker, B, 4) == []
    assert again(picker, B, 4, 99.0) == []
    assert pick(picker, A, 4) == [block(0, 1), block(0, 2), block(0, 3)]


@pytest.mark.parametrize("owed", [[], [block(0, 0)]], ids=["owing nothing", "owing a block"])
def test_a_piece_kept_for_a_source_is_free_again_once_that_source_gives_no_more(owed):
    picker = make("o")
    failed(picker)
    asked = pick(picker, A, 1)
    if not owed:
        deliver(picker, A, *asked)
    picker.released(A, owed)

    assert {request.begin for request in pick(picker, B, 4)} >= {
        BLOCK_LENGTH,
        2 * BLOCK_LENGTH,
        3 * BLOCK_LENGTH,
    }


def test_a_source_under_suspicion_gets_whole_pieces_only():
    picker = make("oo", "12")
    pick(picker, A, 2)

    assert pick(picker, B, 2, alone=True) == [block(1, 0), block(1, 1)]
    assert begun(pick(picker, C, 9)) == [0]
    assert pick(picker, B, 9, alone=True) == [block(1, 2), block(1, 3)]


def test_a_piece_that_could_not_be_written_may_be_shared_again():
    picker = make("o")
    deliver(picker, A, *pick(picker, A, 4))
    picker.rejected(0, exclusive=False)

    pick(picker, A, 1)
    assert pick(picker, B, 1) == [block(0, 1)]


def test_a_piece_that_was_lost_is_not_wanted_any_more():
    picker = make("*o")
    picker.lost(0)
    picker.lost(1)

    assert draw(picker) == ".o"
    assert picker.remaining == 1


# -- the end game


def end_game() -> tuple[Picker, list[BlockRequest]]:
    picker = make("oo", "11")
    return picker, pick(picker, A, 8)


def test_the_end_game_begins_when_every_missing_block_was_asked_for():
    picker = make("oo")
    blocks = pick(picker, A, 7)
    assert not picker.everything_asked

    blocks += pick(picker, A, 1)
    assert picker.everything_asked
    picker.released(A, blocks[:1])
    assert not picker.everything_asked


def test_in_the_end_game_late_blocks_are_asked_of_a_second_source_the_oldest_first():
    picker, blocks = end_game()

    assert again(picker, B, 8, LATE_AFTER / 2) == []
    assert again(picker, B, 3, LATE_AFTER + 0.01) == sorted(blocks)[:3]


def test_in_the_end_game_nothing_is_doubled_that_will_come_as_soon_from_where_it_was_asked():
    picker = make("oo", "11")
    quick, slow = pick(picker, A, 4), pick(picker, C, 4)
    now = LATE_AFTER + 0.01

    found = picker.pick_again(B, everything(picker), 8, now, slower=lambda asked: asked == C)

    assert sorted(found) == sorted(slow)
    stale = picker.pick_again(B, everything(picker), 8, STALE_AFTER, slower=lambda asked: False)
    assert sorted(stale) == sorted(quick)


def test_no_block_is_asked_of_more_than_two_sources_nor_twice_of_one():
    picker, _ = end_game()

    assert again(picker, A, 8, 9.0) == []
    assert len(again(picker, B, 8, 9.0)) == 8
    assert again(picker, B, 8, 9.0) == []
    assert again(picker, C, 8, 9.0) == []
    assert MAX_ASKERS == 2


def test_when_a_doubled_block_comes_the_other_source_is_named():
    picker, blocks = end_game()
    again(picker, B, 8, 9.0)

    assert picker.arrived(B, blocks[0]).also_asked == (A,)
    assert picker.arrived(A, blocks[1]).also_asked == (B,)


def test_a_doubled_block_that_one_source_gives_back_is_still_asked_of_the_other():
    picker, blocks = end_game()
    again(picker, B, 8, 9.0)
    picker.released(A, blocks)

    assert picker.everything_asked
    picker.released(B, blocks)
    assert not picker.everything_asked


def test_before_the_end_game_only_stale_requests_are_doubled():
    picker = make("ooo")
    blocks = pick(picker, A, 4)

    assert again(picker, B, 4, STALE_AFTER - 0.1) == []
    assert again(picker, B, 4, STALE_AFTER) == blocks


# -- who has what


def test_availability_counts_every_source_that_has_a_piece():
    picker = make("ooo")
    some = pieces("** ")
    picker.source_joined(some)
    picker.source_joined(pieces("***"))
    picker.source_has(2)

    assert [picker.availability(piece) for piece in range(3)] == [2, 2, 2]
    picker.source_left(some, joined_complete=False)
    assert [picker.availability(piece) for piece in range(3)] == [1, 1, 2]
    picker.source_left(pieces("***"), joined_complete=True)
    assert [picker.availability(piece) for piece in range(3)] == [0, 0, 1]


def test_needed_pieces_that_nobody_has_are_named():
    picker = make("ooo*.", "01000")

    assert picker.unavailable() == [0, 2]
    pick(picker, A, 1, has=pieces("*    "))  # whoever had it may have left meanwhile
    assert picker.unavailable() == [0, 2]
    picker.source_joined(pieces("*****"))
    assert picker.unavailable() == []


# -- properties

PIECES, BLOCKS = 5, 3
SOURCES = {"a": "*****", "b": "** * ", "c": " ****", "d": "*****"}


class Picking(RuleBasedStateMachine):
    """Any order of events: no block is lost, and every count agrees with the model."""

    def __init__(self) -> None:
        super().__init__()
        size = (PIECES * BLOCKS - 1) * BLOCK_LENGTH + 99
        self.geometry = Geometry(size, BLOCKS * BLOCK_LENGTH)
        self.picker = Picker(self.geometry, Bitfield(PIECES), random.Random(0))
        self.now = 0.0
        self.owes: dict[str, list[BlockRequest]] = {source: [] for source in SOURCES}
        self.came: dict[int, set[int]] = {piece: set() for piece in range(PIECES)}
        self.checking: set[int] = set()
        self.had: set[int] = set()
        self.there: set[str] = set()

    @staticmethod
    def numbers(request: BlockRequest) -> range:
        first = request.begin // BLOCK_LENGTH
        return range(first, first + blocks_in(request))

    @precondition(lambda self: len(self.there) < len(SOURCES))
    @rule(data=st.data())
    def joins(self, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(sorted(set(SOURCES) - self.there)))
        self.there.add(source)
        self.picker.source_joined(pieces(SOURCES[source]))

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(sorted(self.there)))
        self.there.discard(source)
        has = pieces(SOURCES[source])
        self.picker.released(source, self.owes[source])
        self.owes[source] = []
        self.picker.source_left(has, joined_complete=has.complete)

    @precondition(lambda self: self.there)
    @rule(
        data=st.data(),
        count=st.integers(1, 8),
        run=st.integers(1, 4),
        alone=st.booleans(),
        span=st.booleans(),
    )
    def is_asked(self, data: st.DataObject, count: int, run: int, alone: bool, span: bool) -> None:
        source = data.draw(st.sampled_from(sorted(self.there)))
        has = pieces(SOURCES[source])
        owed = {
            (r.piece, n) for other in self.owes.values() for r in other for n in self.numbers(r)
        }
        ask = self.picker.pick_span if span else self.picker.pick
        picked = ask(source, has, count, self.now, run=run, alone=alone)
        if span:
            assert picked == sorted(picked)
        else:
            assert sum(map(blocks_in, picked)) <= count
        for request in picked:
            assert self.geometry.contains(request)
            assert has[request.piece]
            assert blocks_in(request) <= run
            for number in self.numbers(request):
                assert (request.piece, number) not in owed, "asked of nobody else"
                assert number not in self.came[request.piece]
        self.owes[source] += picked

    @precondition(lambda self: self.there)
    @rule(data=st.data(), count=st.integers(1, 8), later=st.floats(0, 10))
    def is_asked_again(self, data: st.DataObject, count: int, later: float) -> None:
        source = data.draw(st.sampled_from(sorted(self.there)))
        self.now += later
        picked = self.picker.pick_again(source, pieces(SOURCES[source]), count, self.now)
        assert len(picked) <= count
        assert not set(picked) & set(self.owes[source])
        self.owes[source] += picked

    @precondition(lambda self: any(self.owes.values()))
    @rule(data=st.data(), late=st.booleans())
    def delivers(self, data: st.DataObject, late: bool) -> None:
        source = data.draw(st.sampled_from(sorted(s for s, owed in self.owes.items() if owed)))
        request = data.draw(st.sampled_from(self.owes[source]))
        self.owes[source].remove(request)
        if late:  # it had been taken back, but was on its way
            self.picker.released(source, [request])
        came, piece = self.came[request.piece], request.piece
        new = set() if piece in self.checking | self.had else set(self.numbers(request)) - came
        arrival = self.picker.arrived(source, request)
        assert {n for part in arrival.wanted for n in self.numbers(part)} == new
        came |= new
        for other in arrival.also_asked:  # what is there by now is cancelled at the others
            self.owes[other] = [
                r for r in self.owes[other] if r.piece != piece or self.picker.is_missing(r)
            ]
        full = len(came) == self.geometry.block_count(piece)
        assert arrival.complete == (bool(new) and full)
        if arrival.complete:
            self.checking.add(piece)

    @precondition(lambda self: any(self.owes.values()))
    @rule(data=st.data())
    def chokes(self, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(sorted(s for s, owed in self.owes.items() if owed)))
        self.picker.released(source, self.owes[source])
        self.owes[source] = []

    @precondition(lambda self: self.checking)
    @rule(data=st.data(), right=st.booleans())
    def is_checked(self, data: st.DataObject, right: bool) -> None:
        piece = data.draw(st.sampled_from(sorted(self.checking)))
        self.checking.discard(piece)
        if right:
            self.had.add(piece)
            self.picker.verified(piece)
        else:
            self.came[piece] = set()
            self.picker.rejected(piece)

    @invariant()
    def every_piece_is_in_exactly_one_state(self) -> None:
        picker = self.picker
        for piece in range(PIECES):
            state = picker.state(piece)
            assert (state is PieceState.HAD) == (piece in self.had)
            assert (state is PieceState.CHECKING) == (piece in self.checking)
            assert (state is PieceState.OPEN) == (piece in picker._order)
            busy = state in (PieceState.IN_PROGRESS, PieceState.CHECKING)
            assert busy == (piece in picker._in_progress)
        assert picker.remaining == PIECES - len(self.had)

    @invariant()
    def the_order_is_by_availability(self) -> None:
        there = [pieces(SOURCES[source]) for source in self.there]
        counts = [sum(has[piece] for has in there) for piece in range(PIECES)]
        assert [self.picker.availability(piece) for piece in range(PIECES)] == counts
        order = [counts[piece] for piece in self.picker._order]
        assert order == sorted(order)
        assert (
            self.picker.unavailable()
            == [
                piece
                for piece in range(PIECES)
                if not counts[piece] and piece not in self.had | self.checking
            ]
            or self.checking
        )

    @invariant()
    def no_missing_block_is_lost(self) -> None:
        """Each is free, or asked of exactly those who owe it."""
        for piece, progress in self.picker._in_progress.items():
            for number in range(self.geometry.block_count(piece)):
                missing = bool(progress.missing >> number & 1)
                assert missing == (number not in self.came[piece])
                asked = {source for source, _ in progress.askers.get(number, ())}
                owing = {
                    source
                    for source, owed in self.owes.items()
                    for request in owed
                    if request.piece == piece and number in self.numbers(request)
                }
                if missing and not asked:
                    assert progress.free >> number & 1
                    assert piece in self.picker._with_free
                assert asked <= owing
                assert len(asked) <= MAX_ASKERS

    def teardown(self) -> None:
        """One source that gives everything completes the download, whatever happened."""
        for source in SOURCES:
            self.picker.released(source, self.owes[source])
        for piece in self.checking:
            self.picker.rejected(piece)
        for _ in range(2 * PIECES * BLOCKS):
            for request in self.picker.pick("e", Bitfield.full(PIECES), 4, self.now):
                if self.picker.arrived("e", request).complete:
                    self.picker.verified(request.piece)
        assert self.picker.remaining == 0


TestPicking = Picking.TestCase
TestPicking.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)


# -- spans


def test_a_span_is_whole_pieces_side_by_side_around_the_rarest():
    picker = make("oooooooo", "33311133")

    blocks = picker.pick_span(A, everything(picker), 12, 0.0, run=4)

    assert blocks == [block(3, 0, 4), block(4, 0, 4), block(5, 0, 4)]
    assert draw(picker) == "ooo---oo"


def test_a_span_has_neighbours_that_a_few_sources_more_have_if_these_are_not_counted():
    picker = make("oooooo", "532135")

    assert begun(picker.pick_span(A, everything(picker), 99, 0.0, slack=2)) == [1, 2, 3, 4]


def test_a_span_is_one_piece_at_least_and_ends_at_what_is_had_asked_or_not_there():
    assert begun(make("ooo").pick_span(A, pieces(" * "), 1, 0.0)) == [1]
    assert begun(make("*oo*").pick_span(A, pieces("****"), 99, 0.0)) == [1, 2]
    assert begun(make("oooo").pick_span(A, pieces(" ** "), 99, 0.0)) == [1, 2]


def test_a_span_goes_on_where_the_last_one_ended_unless_that_is_common():
    picker = make("oooooooo", "11111111")
    assert begun(picker.pick_span(A, everything(picker), 8, 0.0, after=5)) == [5, 6]

    picker = make("oooooooo", "11111199")
    assert 6 not in begun(picker.pick_span(A, everything(picker), 4, 0.0, after=6))


def test_a_span_takes_up_first_what_others_began_and_left():
    picker = make("oooo")
    gone = picker.pick(B, pieces("*   "), 3, 0.0)
    picker.released(B, gone)
    pick(picker, C, 2, has=pieces(" *  "))

    assert picker.pick_span(A, everything(picker), 99, 0.0, run=4) == [block(0, 0, 4)]


def test_a_span_takes_what_others_are_busy_with_only_when_nothing_else_is_left():
    picker = make("oo")
    pick(picker, B, 1, has=pieces("* "))

    assert begun(picker.pick_span(A, everything(picker), 99, 0.0)) == [1]
    assert picker.pick_span(A, everything(picker), 99, 0.0, run=4) == [block(0, 1, 3)]
    assert picker.pick_span(A, everything(picker), 99, 0.0) == []


def test_a_span_of_a_suspect_is_of_pieces_that_it_gives_alone():
    picker = make("ooo")
    pick(picker, B, 1, has=pieces("*  "))

    blocks = picker.pick_span(A, everything(picker), 99, 0.0, alone=True)

    assert begun(blocks) == [1, 2]
    assert begun(pick(picker, B, 99)) == [0]
    assert again(picker, C, 99, 100.0)[0].piece == 0
    assert picker.pick_span(A, everything(picker), 99, 0.0, alone=True) == []


def test_others_take_over_from_the_end_of_a_span():
    picker = make("ooo")
    picker.pick_span(A, everything(picker), 99, 0.0)

    assert begun(again(picker, B, 4, STALE_AFTER + 1)) == [2]


def test_what_is_free_can_be_asked_for_in_a_given_order():
    picker = make("oo*o.o")
    pick(picker, B, 1, has=pieces("*     "))

    assert [piece for piece in range(6) if picker.has_free(piece)] == [0, 1, 3, 5]
    blocks = picker.pick_next(A, range(6), 6, 0.0, run=4)
    assert blocks == [block(0, 1, 3), block(1, 0, 4)]
    assert begun(picker.pick_next(A, range(6), 99, 0.0)) == [3, 5]

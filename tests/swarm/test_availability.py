"""Open pieces in order of rarity. States are drawn: `"2223333"` is how many peers have each
piece, `"* *"` which pieces are open (a blank: not open)."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2pfs.formats.bitfield import Bitfield
from p2pfs.swarm.availability import RarityOrder


def rarity(counts: str, open_pieces: str | None = None, seed: int = 1) -> RarityOrder:
    drawn = open_pieces or "*" * len(counts)
    opened = [piece for piece, mark in enumerate(drawn) if mark == "*"]
    order = RarityOrder(len(counts), opened, random.Random(seed))
    for piece, count in enumerate(counts):
        for _ in range(int(count)):
            order.increase(piece)
    return order


def drawn(order: RarityOrder) -> str:
    """The availability of each open piece, in the order in which they would be begun."""
    return "".join(str(order.count(piece)) for piece in order)


def test_the_rarest_open_pieces_come_first():
    assert drawn(rarity("312031")) == "011233"


def test_pieces_that_are_not_open_are_counted_and_left_out():
    order = rarity("3120", " ** ")

    assert list(order) == [1, 2]
    assert [order.count(piece) for piece in range(4)] == [3, 1, 2, 0]
    assert (0 in order, 1 in order, len(order)) == (False, True, 2)


def test_a_piece_moves_as_peers_get_and_lose_it():
    order = rarity("111")

    order.increase(1)
    assert list(order)[-1] == 1
    order.increase(0)
    order.increase(2)
    order.decrease(2)
    assert next(iter(order)) == 2


def test_a_closed_piece_that_is_opened_again_stands_where_its_count_belongs():
    order = rarity("31204")

    order.close(2)
    order.increase(2)
    order.increase(2)
    assert drawn(order) == "0134"
    order.open(2)
    assert drawn(order) == "01344"


def test_opening_what_is_open_and_closing_what_is_closed_change_nothing():
    order = rarity("21", "* ")

    order.open(0)
    order.close(1)

    assert list(order) == [0]


def test_the_last_piece_can_be_closed_and_opened():
    order = rarity("5")
    order.close(0)
    assert list(order) == []
    order.open(0)
    assert list(order) == [0]


def test_an_order_without_pieces_is_empty():
    assert list(RarityOrder(0, (), random.Random(1))) == []


def test_ties_are_random_and_every_piece_has_its_chance():
    first = Counter(next(iter(rarity("11111111", seed=seed))) for seed in range(800))

    assert set(first) == set(range(8))
    assert max(first.values()) < 3 * min(first.values())


def test_ties_stay_random_after_pieces_moved_in_and_out_of_a_group():
    first: Counter[int] = Counter()
    for seed in range(600):
        order = rarity("00000000", seed=seed)
        for piece in range(8):  # haves that arrive in the same order everywhere
            order.increase(piece)
        order.close(3)
        order.open(3)
        first[next(iter(order))] += 1

    assert set(first) == set(range(8))
    assert max(first.values()) < 3 * min(first.values())


PIECES = 12
piece_numbers = st.integers(0, PIECES - 1)


class OrderOfRarity(RuleBasedStateMachine):
    """Against the model: a count for each piece and the set of open ones."""

    def __init__(self) -> None:
        super().__init__()
        self.order = RarityOrder(PIECES, range(0, PIECES, 2), random.Random(0))
        self.counts = [0] * PIECES
        self.opened = set(range(0, PIECES, 2))

    @rule(piece=piece_numbers)
    def somebody_gets(self, piece: int) -> None:
        self.order.increase(piece)
        self.counts[piece] += 1

    @precondition(lambda self: any(self.counts))
    @rule(data=st.data())
    def somebody_with_a_piece_leaves(self, data: st.DataObject) -> None:
        piece = data.draw(st.sampled_from([p for p in range(PIECES) if self.counts[p]]))
        self.order.decrease(piece)
        self.counts[piece] -= 1

    @rule(piece=piece_numbers)
    def opens(self, piece: int) -> None:
        self.order.open(piece)
        self.opened.add(piece)

    @rule(piece=piece_numbers)
    def closes(self, piece: int) -> None:
        self.order.close(piece)
        self.opened.discard(piece)

    @invariant()
    def the_order_holds_the_open_pieces_rarest_first(self) -> None:
        order = list(self.order)
        assert sorted(order) == sorted(self.opened)
        assert len(self.order) == len(self.opened)
        assert [self.counts[p] for p in order] == sorted(self.counts[p] for p in order)
        assert [self.order.count(p) for p in range(PIECES)] == self.counts
        assert [p in self.order for p in range(PIECES)] == [p in self.opened for p in range(PIECES)]


TestOrderOfRarity = OrderOfRarity.TestCase
TestOrderOfRarity.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_any_counts_are_sorted_whoever_announces_first(counts, seed):
    haves = [piece for piece, count in enumerate(counts) for _ in range(count)]
    random.Random(seed).shuffle(haves)
    order = RarityOrder(len(counts), range(len(counts)), random.Random(seed))

    for piece in haves:
        order.increase(piece)

    assert [counts[piece] for piece in order] == sorted(counts)


def test_many_pieces_at_once_come_to_the_same_order_as_one_by_one():
    has = Bitfield.of(64, range(0, 64, 3))
    slowly, at_once = (RarityOrder(64, range(64), random.Random(1)) for _ in range(2))

    for piece in has:
        slowly.increase(piece)
    at_once.increase_all(has)

    assert [slowly.count(p) for p in range(64)] == [at_once.count(p) for p in range(64)]
    for order in (slowly, at_once):
        assert [order.count(p) for p in order] == sorted(order.count(p) for p in range(64))
    at_once.decrease_all(has)
    at_once.increase(5)
    assert list(at_once)[-1] == 5


def test_only_what_a_source_has_is_offered_rarest_first():
    order = RarityOrder(64, range(64), random.Random(1))
    for piece in (7, 9):
        order.increase(piece)
    order.close(8)

    assert list(order.of(Bitfield.of(64, [8]))) == []
    assert list(order.of(Bitfield.of(64, [7, 8, 10]))) == [10, 7]
    assert sorted(order.of(Bitfield.full(64))) == sorted(set(range(64)) - {8})
    most = Bitfield.of(64, range(1, 64))
    assert list(order.of(most)) == [p for p in order if p in most]

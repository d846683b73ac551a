"""Whom to unchoke (BEP 3, "choking and optimistic unchoking")."""

from __future__ import annotations

import itertools
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.swarm.choker import OPTIMISTIC_EVERY, RECHOKE_EVERY, Candidate, Choker


def candidate(key: str, rate: float = 0.0, **changes) -> Candidate:
    return Candidate(
        **{
            "key": key,
            "interested": True,
            "unchoked": False,
            "rate": rate,
            "snubbed": False,
            "connected_for": 1000.0,
        }
        | changes
    )


def interested(*rates: float) -> list[Candidate]:
    """Interested peers a, b, c... with these rates."""
    return [candidate("abcdefghijklmnop"[place], rate) for place, rate in enumerate(rates)]


def test_while_slots_are_free_everybody_interested_is_unchoked():
    assert Choker(4).choose(interested(0, 0, 0, 0), 0.0, random.Random(1)) == set("abcd")


def test_free_slots_go_to_peers_that_may_become_interested():
    peers = [candidate("a"), candidate("b", interested=False)]

    assert Choker(4).choose(peers, 0.0, random.Random(1)) == {"a", "b"}


def test_the_fastest_get_the_regular_slots():
    chosen = Choker(4).choose(interested(1, 9, 2, 8, 3, 7), 0.0, random.Random(1))

    assert set("bdf") <= chosen
    assert len(chosen) == 4


def test_a_snubbed_peer_ranks_below_the_slowest():
    peers = [candidate("a", 100.0, snubbed=True), *interested(0, 1, 2, 3, 4)[1:]]

    for seed in range(20):
        assert set("cde") <= Choker(4).choose(peers, 0.0, random.Random(seed))


def test_among_equals_whoever_is_unchoked_stays():
    peers = [candidate(key, unchoked=key in "dh") for key in "abcdefgh"]

    for seed in range(20):
        assert set("dh") <= Choker(3).choose(peers, 0.0, random.Random(seed))


def test_a_peer_that_is_not_interested_takes_no_slot_from_one_that_is():
    peers = [*interested(1, 2, 3, 4, 5), candidate("z", 99.0, interested=False)]

    chosen = Choker(4).choose(peers, 0.0, random.Random(1))

    assert len(chosen & set("abcde")) == 4


def test_the_optimistic_choice_stays_for_thirty_seconds_and_then_moves_on():
    choker, rng = Choker(3), random.Random(7)
    peers = interested(9, 8, *[0] * 8)

    choices = [
        (choker.choose(peers, RECHOKE_EVERY * turn, rng) - {"a", "b"}).pop() for turn in range(30)
    ]

    for turn in range(0, 30, 3):
        assert len(set(choices[turn : turn + 3])) == 1
    turns = choices[::3]
    assert all(one != other for one, other in itertools.pairwise(turns))
    assert OPTIMISTIC_EVERY == 3 * RECHOKE_EVERY


def test_everybody_gets_an_optimistic_turn():
    choker, rng = Choker(2), random.Random(3)
    peers = interested(9, *[0] * 6)

    seen = set()
    for turn in range(60):
        seen |= choker.choose(peers, OPTIMISTIC_EVERY * turn, rng)

    assert seen == set("abcdefg")


def test_newcomers_are_three_times_as_likely():
    peers = [
        candidate("a", 9.0),
        candidate("old"),
        candidate("new", connected_for=59.0),
    ]

    picks: Counter[object] = Counter()
    for seed in range(2000):
        # Without the rank's coin toss: both have the same rate, the second slot is optimistic.
        picks.update(Choker(2).choose(peers, 0.0, random.Random(seed)) - {"a"})

    assert 2.4 < picks["new"] / picks["old"] < 3.7


def test_the_optimistic_choice_is_made_anew_when_its_peer_left_or_earned_a_regular_slot():
    choker, rng = Choker(2), random.Random(1)
    first = (choker.choose(interested(9, 1, 1, 1), 0.0, rng) - {"a"}).pop()
    earned = [candidate(key, 99.0 if key == first else 1.0) for key in "abcd"]

    chosen = choker.choose(earned, 1.0, rng)

    assert first in chosen
    assert len(chosen) == 2
    remaining = [c for c in earned if c.key not in chosen]
    assert len(choker.choose([*remaining, candidate("x"), candidate("y")], 2.0, rng)) == 2


def test_one_slot_is_the_optimistic_one():
    assert len(Choker(1).choose(interested(5, 4, 3), 0.0, random.Random(1))) == 1


def test_nobody_to_choose_from_is_no_error():
    assert Choker(4).choose([], 0.0, random.Random(1)) == set()


candidates = st.lists(
    st.builds(
        Candidate,
        key=st.integers(0, 10**9),
        interested=st.booleans(),
        unchoked=st.booleans(),
        rate=st.floats(0, 1e6),
        snubbed=st.booleans(),
        connected_for=st.floats(0, 200),
    ),
    max_size=20,
    unique_by=lambda c: c.key,
)


@given(st.integers(1, 8), st.lists(candidates, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_slots_are_never_exceeded_nor_left_empty(slots, rounds):
    choker, rng = Choker(slots), random.Random(1)
    for turn, peers in enumerate(rounds):
        chosen = choker.choose(peers, turn * RECHOKE_EVERY, rng)
        wanting = {c.key for c in peers if c.interested}

        assert chosen <= {c.key for c in peers}
        assert len(chosen & wanting) == min(slots, len(wanting))

"""Who sent the bad block. A piece is drawn as its givers, `"abab"`, and its blocks' digests,
`"1x34"`: letters are wrong."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.swarm.blame import MAX_RECORDS, Blame


def givers(drawn: str) -> list[str | None]:
    return [None if giver == "?" else giver for giver in drawn]


def digests(drawn: str) -> list[bytes]:
    return [mark.encode() for mark in drawn]


def test_whoever_gave_every_block_of_a_bad_piece_is_guilty_at_once():
    assert Blame().failed(0, givers("aaaa"), digests("12x4")) == {"a"}


def test_whoever_shared_a_bad_piece_is_not_guilty_yet():
    blame = Blame()

    assert blame.failed(0, givers("abab"), digests("1x34")) == set()
    assert blame.suspects() == {"a", "b"}


def test_the_giver_of_a_block_that_differs_from_the_right_one_is_guilty():
    blame = Blame()
    blame.failed(0, givers("abab"), digests("1x34"))

    assert blame.passed(0, digests("1234")) == {"b"}
    assert blame.suspects() == set()


def test_every_failed_attempt_is_compared():
    blame = Blame()
    blame.failed(0, givers("abcc"), digests("x234"))
    blame.failed(0, givers("cbdd"), digests("12y4"))

    assert blame.passed(0, digests("1234")) == {"a", "d"}


def test_a_block_whose_giver_is_unknown_blames_nobody():
    blame = Blame()

    assert blame.failed(0, givers("aa?a"), digests("12x4")) == set()
    assert blame.passed(0, digests("1234")) == set()


def test_digests_are_wanted_only_of_pieces_that_failed():
    blame = Blame()
    blame.failed(3, givers("ab"), digests("1x"))

    assert [blame.wants_digests(piece) for piece in (2, 3)] == [False, True]
    blame.passed(3, digests("12"))
    assert not blame.wants_digests(3)


def test_a_piece_that_never_failed_blames_nobody():
    assert Blame().passed(1, digests("12")) == set()


def test_suspects_of_one_piece_stay_when_another_passes():
    blame = Blame()
    blame.failed(0, givers("ab"), digests("1x"))
    blame.failed(1, givers("bc"), digests("x2"))

    blame.passed(0, digests("12"))

    assert blame.suspects() == {"b", "c"}


def test_only_so_many_failures_are_remembered():
    blame = Blame()
    for piece in range(10 * MAX_RECORDS):
        blame.failed(piece, givers("ab"), digests("1x"))
    for _ in range(10 * MAX_RECORDS):
        blame.failed(7, givers("ab"), digests("1x"))

    assert sum(map(len, blame._failed.values())) <= MAX_RECORDS


marks = st.lists(
    st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=4, max_size=4
)  # giver, right or wrong


@given(st.lists(st.tuples(st.integers(0, 3), marks), max_size=20), st.sets(st.sampled_from("abcd")))
@settings(max_examples=100, deadline=None)
def test_the_honest_are_never_found_guilty(attempts, liars):
    blame, right, guilty = Blame(), digests("1234"), set()
    for piece, blocks in attempts:
        sent = [
            digest if giver not in liars or honest else b"x"
            for digest, (giver, honest) in zip(right, blocks, strict=True)
        ]
        if sent == right:
            guilty |= blame.passed(piece, right)
        else:
            guilty |= blame.failed(piece, [giver for giver, _ in blocks], sent)

    assert guilty <= liars

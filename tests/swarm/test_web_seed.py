"""One web seed: when it is asked, and how what it sends becomes blocks."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.web_seed import FIRST_RETRY, MAX_RETRY, MAX_RETRY_AFTER, Span, WebSeed

PIECE = 4 * BLOCK_LENGTH
TAIL = 1000
"""The last piece has two blocks, the second of them short."""
GEOMETRY = Geometry(3 * PIECE + BLOCK_LENGTH + TAIL, PIECE)
CONTENT = random.Random(1).randbytes(GEOMETRY.total_length)


def seed() -> WebSeed:
    return WebSeed("http://host/file", "host", GEOMETRY.piece_count, 0.0)


def run(piece: int, number: int = 0, count: int = 4) -> BlockRequest:
    begin = number * BLOCK_LENGTH
    length = min(count * BLOCK_LENGTH, GEOMETRY.piece_size(piece) - begin)
    return BlockRequest(piece, begin, length)


def content(block: BlockRequest) -> bytes:
    start = block.piece * PIECE + block.begin
    return CONTENT[start : start + block.length]


# -- spans


@given(
    st.lists(st.sampled_from([run(p, n, 1) for p in range(3) for n in range(4)]), unique=True),
    st.lists(st.integers(1, 9).map(lambda n: n * 5_555), min_size=1, max_size=5),
    st.integers(0, PIECE),
)
def test_however_the_bytes_come_each_block_comes_out_once_and_right(blocks, cuts, start):
    blocks = sorted([*blocks, run(3)])
    span = Span(seed(), GEOMETRY, blocks, 0.0)
    wanted = {(b.piece, b.begin // BLOCK_LENGTH) for b in blocks} | {(3, 1)}
    first = span.next_run()[0]

    came, place = [], max(0, first - start)
    while place < len(CONTENT):
        cut = cuts[len(came) % len(cuts)]
        for block, data in span.feed(place, memoryview(CONTENT[place : place + cut])):
            assert bytes(data) == content(block)
            assert block.begin % BLOCK_LENGTH == 0
            came += [
                (block.piece, number)
                for number in range(
                    block.begin // BLOCK_LENGTH, -(-(block.begin + block.length) // BLOCK_LENGTH)
                )
            ]
        place += cut

    assert came == sorted(wanted)
    assert span.owed == 0
    assert span.next_run() == (0, 0)


def test_whole_runs_pass_without_being_copied():
    span = Span(seed(), GEOMETRY, [run(0), run(1)], 0.0)
    data = memoryview(CONTENT[: 2 * PIECE])

    ((first, view), (second, _)) = span.feed(0, data)

    assert (first, second) == (run(0), run(1))
    assert view.obj is data.obj


def test_a_span_knows_where_the_next_byte_is_wanted_and_how_many_in_a_row():
    span = Span(seed(), GEOMETRY, [run(0, 1, 3), run(1), run(3)], 0.0)
    assert span.next_run() == (BLOCK_LENGTH, 3 * BLOCK_LENGTH + PIECE)

    list(span.feed(BLOCK_LENGTH, memoryview(bytes(100))))
    assert span.next_run() == (BLOCK_LENGTH + 100, 3 * BLOCK_LENGTH + PIECE - 100)

    list(span.feed(BLOCK_LENGTH + 100, memoryview(bytes(2 * PIECE - BLOCK_LENGTH - 100))))
    assert span.next_run() == (3 * PIECE, BLOCK_LENGTH + TAIL)
    assert (span.owed, span.gained) == (BLOCK_LENGTH + TAIL, 2 * PIECE - BLOCK_LENGTH)
    assert span.blocks == [run(3)]


def test_bytes_that_nobody_waits_for_are_passed_over():
    span = Span(seed(), GEOMETRY, [run(1)], 0.0)

    assert list(span.feed(0, memoryview(CONTENT[:PIECE]))) == []
    assert list(span.feed(2 * PIECE, memoryview(CONTENT[2 * PIECE :]))) == []
    assert span.owed == PIECE


def test_a_span_grows_at_its_end():
    span = Span(seed(), GEOMETRY, [run(0)], 0.0)
    span.add([run(1), run(2)])

    assert (span.owed, span.last_piece, span.next_run()) == (3 * PIECE, 2, (0, 3 * PIECE))


# -- when it is asked


def failing(web: WebSeed, times: int, **how: object) -> list[float]:
    """The pauses after so many failures in a row."""
    pauses = []
    for _ in range(times):
        web.failed("no", 100.0, random.Random(1), **how)
        pauses.append(web.retry_at - 100.0)
        web.retry_at = 0.0
    return pauses


def test_each_failure_makes_the_pause_longer_up_to_a_bound():
    pauses = failing(seed(), 14)

    assert pauses[0] <= 1.2 * FIRST_RETRY
    assert all(later > earlier for earlier, later in pairwise(pauses[:9]))
    assert max(pauses) <= 1.2 * MAX_RETRY


def test_who_answered_no_is_asked_later_than_who_did_not_answer():
    assert failing(seed(), 1, refused=True)[0] >= 40


@pytest.mark.parametrize(
    ("wish", "pause"), [(0.0, FIRST_RETRY), (7.0, 7.0), (1e9, MAX_RETRY_AFTER)]
)
def test_the_servers_own_wish_counts_within_reason(wish, pause):
    assert failing(seed(), 1, retry_after=wish) == [pause]


def test_what_it_gives_ends_the_pauses_and_the_complaint():
    web = seed()
    failing(web, 5)
    assert web.problem
    web.gave()

    assert web.problem == ""
    assert failing(web, 1)[0] <= 1.2 * FIRST_RETRY


def test_between_failure_and_retry_it_is_not_asked():
    web = seed()
    web.failed("no", 100.0, random.Random(1))

    assert not web.may_be_asked(100.1)
    assert web.may_be_asked(102.0)


def test_a_disabled_one_is_never_asked_again():
    web = seed()
    web.disable("wrong bytes")

    assert not web.may_be_asked(1e9)
    assert web.problem == "wrong bytes, so it is not asked again"


# -- how long it takes


def test_it_lags_when_it_owes_more_than_it_can_send_in_that_time():
    web = seed()
    web.pace = float(PIECE)
    span = Span(web, GEOMETRY, [run(0), run(1)], 10.0)
    web.spans.append(span)

    assert web.lags(1.0, 10.0)
    assert not web.lags(3.0, 10.0)
    assert web.lags(3.0, 14.0), "nothing came since"
    span.fed_at = 14.0
    assert not web.lags(3.0, 14.0)


def test_it_does_not_lag_before_it_could_have_answered():
    web = seed()
    assert not web.lags(1.0, 99.0), "it owes nothing"
    web.spans.append(Span(web, GEOMETRY, [run(0)], 10.0))

    assert not web.lags(1.0, 11.0)
    assert web.lags(1.0, 13.0)

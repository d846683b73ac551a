"""How many blocks one peer is asked for at a time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.swarm.pipeline import MAX_DEPTH, Pipeline

QUICK, FAIR, LATE = 0.2, 2.0, 3.0  # seconds from a request to its block


def after(*waits: float, limit: int = MAX_DEPTH) -> Pipeline:
    pipeline = Pipeline(limit)
    for waited in waits:
        pipeline.arrived(waited)
    return pipeline


def test_a_new_peer_is_asked_for_a_few_blocks_so_that_others_get_their_share():
    assert Pipeline().depth == Pipeline().room(0) == 8


def test_quick_answers_deepen_the_pipeline_up_to_what_clients_accept():
    assert after(QUICK).depth == 9
    assert after(*[QUICK] * 1000).depth == MAX_DEPTH == 500


def test_late_answers_make_it_shallow_but_never_empty():
    assert after(LATE, LATE).depth == 7
    assert after(*[LATE] * 1000).depth == 4


def test_fair_answers_leave_it_as_it_is():
    assert after(*[FAIR] * 100).depth == 8


@pytest.mark.parametrize("way", [0.001, 0.1, 0.5])
@pytest.mark.parametrize("rate", [100, 300], ids=["slow", "fast"])
def test_a_peer_is_asked_for_what_is_on_the_way_and_some_tenths_of_a_second_more(rate, way):
    pipeline = Pipeline()
    for _ in range(3000):
        pipeline.arrived(max(way, pipeline.depth / rate))

    assert rate * way <= pipeline.depth
    assert pipeline.depth <= rate * (2 * way + 0.5) + 8


def test_a_piece_is_asked_for_whole_however_late_it_comes():
    pipeline = Pipeline(piece=64)
    assert pipeline.depth == 64

    for _ in range(1000):
        pipeline.arrived(LATE)

    assert pipeline.depth == 64


def test_a_large_piece_is_no_reason_to_ask_a_slow_peer_for_megabytes():
    assert Pipeline(piece=1024).depth == 128


def test_a_peer_that_queues_less_than_a_piece_is_asked_for_no_more():
    pipeline = Pipeline(piece=64)

    pipeline.limit(10)

    assert pipeline.depth == 10


def test_it_knows_how_long_blocks_waited_lately():
    assert after().wait == 0
    assert after(LATE).wait == LATE
    assert after(LATE, *[QUICK] * 20).wait == pytest.approx(QUICK, abs=0.02)


@pytest.mark.parametrize("limit", [1, 2, 5, 32, 100])
def test_what_the_peer_accepts_is_never_exceeded(limit):
    for waits in ([QUICK] * 200, [LATE] * 200, [LATE] * 50 + [QUICK] * 50):
        assert after(*waits, limit=limit).depth <= limit


def test_new_requests_go_out_once_a_quarter_of_the_window_is_free():
    pipeline = Pipeline()

    assert pipeline.room(8) == 0
    assert pipeline.room(7) == 0
    assert pipeline.room(6) == 2
    assert pipeline.room(10) == 0


def test_a_peer_that_owes_something_for_twenty_seconds_becomes_snubbed_once():
    pipeline = Pipeline()

    assert not pipeline.check(119.9, 100.0, 3)
    assert pipeline.check(120.0, 100.0, 3)
    assert not pipeline.check(121.0, 100.0, 3)
    assert (pipeline.snubbed, pipeline.depth) == (True, 1)


def test_a_peer_that_owes_nothing_is_never_snubbed():
    assert not Pipeline().check(1e6, 0.0, 0)


def test_a_snubbed_peer_is_asked_for_one_block_until_it_delivers():
    pipeline = Pipeline()
    pipeline.check(20.0, 0.0, 1)

    assert (pipeline.room(0), pipeline.room(1)) == (1, 0)
    pipeline.arrived(LATE)
    assert not pipeline.snubbed
    assert pipeline.depth == 4


def test_a_run_is_an_eighth_of_the_window_at_most():
    assert Pipeline().run == 1
    assert after(*[QUICK] * 1000).run == 62
    assert after(*[LATE] * 1000).run == 1


@given(
    st.integers(1, MAX_DEPTH),
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 64), st.booleans()), max_size=80),
)
@settings(max_examples=100, deadline=None)
def test_the_depth_stays_between_one_and_the_limit(limit, steps):
    pipeline = Pipeline(limit)
    for waited, blocks, checked in steps:
        if checked:
            pipeline.check(waited, 0.0, blocks)
        else:
            pipeline.arrived(waited, blocks)

        assert 1 <= pipeline.depth <= limit
        assert 1 <= pipeline.run <= pipeline.depth
        assert 0 <= pipeline.room(0) <= pipeline.depth

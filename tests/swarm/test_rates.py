"""Measured rates and limited rates, in bytes a second."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.swarm.rates import BURST, WINDOW, RateMeter, TokenBucket


def test_a_new_meter_measures_nothing():
    meter = RateMeter(100.0)

    assert meter.rate(100.0) == 0.0
    assert meter.rate(105.0) == 0.0


def test_a_steady_stream_is_measured_as_it_is():
    meter = RateMeter(0.0)
    for second in range(1, 60):
        meter.add(500)
        meter.sample(float(second))

        assert meter.rate(float(second)) == pytest.approx(500)
    assert meter.total == 59 * 500


def test_what_is_older_than_the_window_counts_no_more():
    meter = RateMeter(0.0)
    meter.add(10**6)
    for second in range(1, 13):
        meter.sample(float(second))

    assert meter.rate(12.0) == 0.0
    assert meter.total == 10**6


def test_a_burst_just_after_the_start_is_no_infinite_rate():
    meter = RateMeter(0.0)
    meter.add(10**6)

    assert meter.rate(0.0) == 0.0
    assert meter.rate(0.01) == 0.0


def test_a_meter_keeps_no_more_samples_than_the_window_needs():
    meter = RateMeter(0.0)
    for tick in range(1000):
        meter.sample(tick * 1.0)

    assert len(meter._samples) <= WINDOW + 2


def test_without_a_limit_everything_passes_at_once():
    bucket = TokenBucket(None, 0.0)
    bucket.take(10**12, 0.0)

    assert bucket.available(0.0) == math.inf
    assert bucket.wait(0.0) == 0.0


def test_a_bucket_starts_with_one_burst_and_never_holds_more():
    bucket = TokenBucket(1000.0, 0.0)

    assert bucket.available(0.0) == 1000 * BURST
    assert bucket.available(3600.0) == 1000 * BURST


def test_what_is_overdrawn_is_paid_back():
    bucket = TokenBucket(1000.0, 0.0)
    bucket.take(1100, 0.0)

    assert bucket.available(0.0) == 0.0
    assert bucket.available(0.99) == 0.0
    assert bucket.available(1.05) == pytest.approx(50)


def test_after_the_wait_that_it_names_something_may_pass():
    bucket = TokenBucket(1000.0, 0.0)
    bucket.take(5000, 0.0)

    wait = bucket.wait(0.0)

    assert wait == pytest.approx(4.95)
    assert bucket.wait(wait) == 0.0
    assert bucket.available(wait) == pytest.approx(50)


def test_a_clock_that_stands_still_gives_no_tokens():
    bucket = TokenBucket(1000.0, 5.0)
    bucket.take(100, 5.0)

    assert bucket.available(5.0) == 0.0
    assert bucket.available(4.0) == 0.0  # nor does one that seems to go back


@given(
    st.floats(1000, 1e7),
    st.lists(st.tuples(st.integers(1, 32_768), st.floats(0, 0.5)), min_size=1, max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_a_limit_holds_over_every_run_but_for_a_burst_and_one_block(rate, steps):
    bucket, now, sent = TokenBucket(rate, 0.0), 0.0, 0
    for amount, pause in steps:
        now += pause
        if bucket.available(now) > 0:
            bucket.take(amount, now)
            sent += amount

        assert sent <= rate * (now + BURST) * 1.000001 + 32_768

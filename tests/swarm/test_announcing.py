"""When to announce, with which event, to which tracker (BEP 3, BEP 12, BEP 31)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.formats.announce_http import Event
from p2pfs.swarm.announcing import MAX_INTERVAL, MAX_RETRY, AnnounceSchedule, Tiers


def schedule(*, complete: bool = False, now: float = 0.0) -> AnnounceSchedule:
    return AnnounceSchedule(now, random.Random(1), complete=complete)


def started(
    interval: float | None = 1800, min_interval: float | None = None, *, complete: bool = False
) -> AnnounceSchedule:
    """A schedule whose `started` was answered at time 0."""
    plan = schedule(complete=complete)
    plan.succeeded(plan.event(), interval, min_interval, 0.0)
    return plan


# -- events


def test_the_first_announce_says_started_and_is_due_at_once():
    plan = schedule(now=50.0)

    assert (plan.event(), plan.next_at) == (Event.STARTED, 50.0)


def test_started_is_repeated_until_a_tracker_heard_it():
    plan = schedule()
    plan.failed(0.0)

    assert plan.event() is Event.STARTED
    plan.succeeded(Event.STARTED, 1800, None, 5.0)
    assert plan.event() is Event.NONE


def test_trackers_that_are_new_do_not_wait_for_those_that_failed():
    plan = schedule()
    plan.failed(0.0, 600)
    plan.more_trackers(10.0)

    assert plan.next_at == 10.0


def test_with_new_trackers_the_one_that_answered_is_not_asked_too_soon():
    plan = started(1800, 60)
    plan.more_trackers(10.0)

    assert plan.next_at == 60.0


def test_completed_is_told_at_once_and_once():
    plan = started()
    plan.completed(100.0)

    assert (plan.event(), plan.next_at) == (Event.COMPLETED, 100.0)
    plan.succeeded(Event.COMPLETED, 1800, None, 100.0)
    assert (plan.event(), plan.next_at) == (Event.NONE, 1900.0)
    plan.completed(200.0)
    assert (plan.event(), plan.next_at) == (Event.NONE, 1900.0)


def test_a_completion_is_untold_until_a_tracker_heard_it():
    plan = schedule()
    assert not plan.completion_untold
    plan.completed(0.0)

    plan.succeeded(Event.STARTED, 1800, None, 0.0)
    assert plan.started
    assert plan.completion_untold
    plan.failed(1.0)
    assert plan.completion_untold
    plan.succeeded(Event.COMPLETED, 1800, None, 5.0)
    assert not plan.completion_untold
    assert not schedule(complete=True).completion_untold


def test_whoever_was_complete_at_the_start_never_says_completed():
    plan = started(complete=True)
    plan.completed(10.0)

    assert (plan.event(), plan.next_at) == (Event.NONE, 1800.0)


def test_a_download_that_ends_before_the_tracker_answers_says_started_and_then_completed():
    plan = schedule()
    plan.completed(1.0)

    assert plan.event() is Event.STARTED
    plan.succeeded(Event.STARTED, 1800, None, 2.0)
    assert (plan.event(), plan.next_at) == (Event.COMPLETED, 2.0)


def test_stopped_is_the_last_word():
    plan = started()
    plan.completed(10.0)

    assert plan.stop()
    assert plan.event() is Event.STOPPED


def test_stopped_is_not_due_where_started_never_arrived():
    plan = schedule()
    plan.failed(0.0)

    assert not plan.stop()


# -- intervals


def test_the_interval_of_the_tracker_is_followed():
    assert started(interval=900).next_at == 900.0


@pytest.mark.parametrize(
    ("interval", "next_at"),
    [
        (None, 1800.0),
        (0, 1800.0),
        (-1, 5.0),
        (1, 5.0),
        (2**31, MAX_INTERVAL),
        (1e300, MAX_INTERVAL),
    ],
)
def test_senseless_intervals_are_replaced(interval, next_at):
    assert started(interval=interval).next_at == next_at


def test_while_nobody_can_serve_us_the_minimum_interval_is_followed():
    plan = started(interval=1800, min_interval=60)
    plan.need_peers(True)

    assert plan.next_at == 60.0
    plan.succeeded(Event.NONE, 1800, 60, 61.0)
    assert plan.next_at == 121.0
    plan.need_peers(False)
    plan.succeeded(Event.NONE, 1800, 60, 121.0)
    assert plan.next_at == 1921.0


def test_a_minimum_interval_that_is_missing_is_30_seconds():
    plan = started(interval=1800)
    plan.need_peers(True)

    assert plan.next_at == 30.0


@pytest.mark.parametrize(("given_minimum", "kept"), [(0, 5.0), (-9, 5.0), (7200, 1800.0)])
def test_a_senseless_minimum_interval_is_kept_within_the_interval(given_minimum, kept):
    plan = started(interval=1800, min_interval=given_minimum)
    plan.need_peers(True)

    assert plan.next_at == kept


# -- failures


def test_failures_are_retried_later_and_later_up_to_five_minutes():
    plan, waits = schedule(), []
    for _ in range(12):
        plan.failed(1000.0)
        waits.append(plan.next_at - 1000.0)

    for expected, wait in zip([2, 4, 8, 16, 32, 64, 128, 256, 300], waits, strict=False):
        assert 0.75 * expected <= wait <= expected
    assert max(waits) <= MAX_RETRY


def test_whom_nobody_serves_tries_again_within_about_a_minute():
    plan = schedule()
    plan.need_peers(True)
    for _ in range(12):
        plan.failed(1000.0)

    assert plan.next_at - 1000.0 <= 60


def test_a_tracker_that_comes_back_is_asked_within_its_own_interval():
    plan = started(interval=30)
    for _ in range(12):
        plan.failed(1000.0)

    assert 22.5 <= plan.next_at - 1000.0 <= 30.0


def test_need_does_not_hurry_a_tracker_that_fails():
    plan = started(interval=1800, min_interval=60)
    for _ in range(5):
        plan.failed(10.0)
    due = plan.next_at

    plan.need_peers(True)

    assert plan.next_at == due


def test_a_tracker_that_says_when_to_come_again_is_obeyed_within_reason():
    plan = schedule()
    plan.failed(0.0, retry_in=600.0)
    assert plan.next_at == 600.0

    plan.failed(0.0, retry_in=10.0**9)
    assert plan.next_at == MAX_INTERVAL


def test_success_ends_the_back_off():
    plan = schedule()
    for _ in range(6):
        plan.failed(0.0)
    plan.succeeded(Event.STARTED, 1800, None, 100.0)
    plan.failed(2000.0)

    assert plan.next_at - 2000.0 <= 2.5


steps = st.lists(
    st.tuples(
        st.sampled_from(["ok", "fail", "hungry", "fed", "completed"]),
        st.integers(-10, 5000),
        st.integers(-10, 5000),
    ),
    max_size=40,
)


@given(steps, st.booleans())
@settings(max_examples=100, deadline=None)
def test_started_and_completed_are_each_told_once_whatever_happens(steps, complete):
    plan, now, told = schedule(complete=complete), 0.0, []
    for what, interval, least in steps:
        if what == "hungry" or what == "fed":
            plan.need_peers(what == "hungry")
        elif what == "completed":
            plan.completed(now)
        else:
            now = max(now, plan.next_at)
            event = plan.event()
            if what == "fail":
                plan.failed(now)
                assert plan.next_at > now
            else:
                plan.succeeded(event, interval, least, now)
                told.append(event)
                assert plan.next_at >= now + 5.0 or plan.event() is Event.COMPLETED

    assert told[:1] in ([], [Event.STARTED])
    assert told.count(Event.STARTED) <= 1
    assert told.count(Event.COMPLETED) <= (0 if complete else 1)


# -- tiers


def test_every_tracker_of_a_tier_comes_before_the_next_tier():
    order = Tiers([["a", "b", "c"], [], ["d"]], random.Random(1)).in_order()

    assert sorted(order[:3]) == ["a", "b", "c"]
    assert order[3:] == ["d"]


def test_a_tier_is_shuffled_once():
    orders = [
        "".join(Tiers([["a", "b", "c"]], random.Random(seed)).in_order()) for seed in range(60)
    ]
    tiers = Tiers([["a", "b", "c"]], random.Random(1))

    assert len(set(orders)) == 6
    assert tiers.in_order() == tiers.in_order()


def test_a_tracker_that_answered_moves_to_the_front_of_its_own_tier():
    tiers = Tiers([["a", "b"], ["c", "d", "e"]], random.Random(1))

    for url in ("e", "c", "b"):
        tiers.succeeded(url)

    assert tiers.in_order() == ["b", "a", "c", "e", "d"]


def test_success_of_an_unknown_tracker_changes_nothing():
    tiers = Tiers([["a"]], random.Random(1))
    tiers.succeeded("z")

    assert tiers.in_order() == ["a"]


def test_chosen_trackers_come_before_the_others_and_further_ones_after_them():
    tiers = Tiers([["a"], ["b", "c"]], random.Random(1))

    assert tiers.extend(["x", "c"], [["b", "y"], ["a"], ["z"]])

    order = tiers.in_order()
    assert sorted(order[:2]) == ["c", "x"]
    assert order[2:] == ["a", "b", "y", "z"]


def test_trackers_that_are_all_known_stay_in_their_order():
    tiers = Tiers([["a", "b", "c"], ["d"]], random.Random(1))
    tiers.succeeded("b")
    before = tiers.in_order()

    assert not tiers.extend(["a", "b", "c"], [["d"], ["c"]])
    assert not tiers.extend([], [])
    assert tiers.in_order() == before


def test_the_first_trackers_of_all_are_new():
    tiers = Tiers([], random.Random(1))

    assert tiers.extend([], [["a"]])
    assert tiers.in_order() == ["a"]


def test_without_trackers_there_is_nothing_to_try():
    assert not Tiers([[], []], random.Random(1))
    assert Tiers([["a"]], random.Random(1))

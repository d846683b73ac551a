"""When torrents are announced on the local network, and how many at a time."""

from __future__ import annotations

import math
from collections import Counter

from p2pfs.swarm.local_announcing import AT_ONCE, EVERY, GATHER, LocalAnnounces

ROOM = 24


def hashes(count: int) -> list[bytes]:
    return [n.to_bytes(20, "big") for n in range(count)]


def run(plan: LocalAnnounces, start: float, stop: float) -> list[tuple[float, tuple[bytes, ...]]]:
    """Everything that is sent from `start` on, before `stop`."""
    sent = []
    now = start
    while (now := max(now, plan.next_at)) < stop:
        message = plan.due(now)
        assert message, "what is due has something to say"
        sent.append((now, message))
    return sent


def test_without_a_torrent_nothing_is_ever_due():
    plan = LocalAnnounces(ROOM)

    assert plan.next_at == math.inf
    assert plan.due(1e9) == ()


def test_a_new_torrent_is_announced_soon_and_then_every_five_minutes():
    plan = LocalAnnounces(ROOM)
    plan.add(b"a", 10.0)

    assert plan.due(10.0) == ()
    sent = run(plan, 10.0, 1000.0)

    assert sent == [(10.0 + GATHER + n * EVERY, (b"a",)) for n in range(4)]


def test_torrents_that_are_added_together_go_out_together():
    plan = LocalAnnounces(ROOM)
    for info_hash in hashes(10):
        plan.add(info_hash, 0.0)

    ((_, message),) = run(plan, 0.0, EVERY)

    assert set(message) == set(hashes(10))


def test_torrents_that_were_added_at_other_times_soon_share_a_message():
    plan = LocalAnnounces(ROOM)
    plan.add(b"a", 0.0)
    run(plan, 0.0, 30.0)
    plan.add(b"b", 30.0)
    run(plan, 30.0, 60.0)

    ((_, message),) = run(plan, 60.0, EVERY + 60.0)

    assert set(message) == {b"a", b"b"}


def test_adding_a_torrent_again_announces_it_no_sooner():
    plan = LocalAnnounces(ROOM)
    plan.add(b"a", 0.0)
    run(plan, 0.0, 10.0)

    plan.add(b"a", 10.0)

    assert plan.next_at == GATHER + EVERY


def test_a_torrent_that_is_closed_is_not_announced_any_more():
    plan = LocalAnnounces(ROOM)
    plan.add(b"a", 0.0)
    plan.add(b"b", 0.0)
    plan.remove(b"b")
    run(plan, 0.0, 10.0)

    plan.remove(b"a")
    plan.remove(b"never there")

    assert plan.next_at == math.inf


def test_thousands_of_torrents_have_their_turns_at_one_message_a_minute():
    plan = LocalAnnounces(ROOM)
    for info_hash in hashes(2000):
        plan.add(info_hash, 0.0)

    sent = run(plan, 0.0, 6 * 3600.0)

    times = [at for at, _ in sent]
    for sooner, later in zip(times, times[AT_ONCE:], strict=False):
        assert later - sooner >= AT_ONCE * 60
    assert all(len(message) <= ROOM for _, message in sent)
    rounds = Counter(info_hash for _, message in sent for info_hash in message)
    assert len(rounds) == 2000
    assert max(rounds.values()) - min(rounds.values()) <= 1


def test_no_torrent_is_announced_twice_in_a_minute():
    plan = LocalAnnounces(ROOM)
    sent: list[tuple[float, tuple[bytes, ...]]] = []
    for number, info_hash in enumerate(hashes(50)):
        plan.add(info_hash, 7.0 * number)
        sent += run(plan, 7.0 * number, 7.0 * (number + 1))
    sent += run(plan, 350.0, 3600.0)

    last: dict[bytes, float] = {}
    for at, message in sent:
        for info_hash in message:
            assert at - last.get(info_hash, -math.inf) >= 60
            last[info_hash] = at
    assert len(last) == 50

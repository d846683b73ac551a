"""Leases begin, live as long as they are renewed, and tell what changes with them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from p2pfs.formats.endpoint import pack_host
from p2pfs.tracker import leases as module
from p2pfs.tracker.leases import Change, IdTaken, Lease, Leases, TooMany
from p2pfs.tracker.rights import Publisher

HOST = pack_host("10.0.0.1")
ONE = Publisher("1", b"one")
A, B, C = (bytes([letter]) * 20 for letter in b"abc")


def register(
    leases: Leases,
    *torrents: bytes,
    node: Publisher = ONE,
    host: bytes = HOST,
    port: int = 5000,
    now: float = 0.0,
    since: int = 7,
) -> tuple[list[Change], bool]:
    return leases.register(node, host, port, torrents, now=now, since=since)


def test_a_lease_names_what_its_node_serves() -> None:
    leases = Leases()

    [change], new = register(leases, A, B, A)

    assert new
    assert (set(change.added), set(change.removed)) == ({A, B}, set())
    assert leases.get("1") is change.lease
    assert (leases.held(A), leases.held(C)) == (1, 0)
    assert leases.holders(A) == {ONE}
    assert (change.lease.since, change.lease.heard, change.lease.until) == (7, 0.0, 30.0)


def test_a_new_list_says_what_came_and_what_went() -> None:
    leases = Leases()
    register(leases, A, B)

    [change], new = register(leases, B, C, now=9.0, since=99)

    assert not new
    assert (set(change.added), set(change.removed)) == ({C}, {A})
    assert [leases.held(one) for one in (A, B, C)] == [0, 1, 1]
    assert (change.lease.since, change.lease.until) == (7, 39.0)


@pytest.mark.parametrize("changed", [{"port": 6000}, {"host": pack_host("::1")}])
def test_a_node_that_moved_leaves_as_what_it_was_and_comes_again(
    changed: dict[str, object],
) -> None:
    leases = Leases()
    [first], _ = register(leases, A, B)

    [gone, come], new = register(leases, B, **changed)  # type: ignore[arg-type]

    assert not new
    assert (gone.before, set(gone.removed), set(gone.added)) == (first.before, {A, B}, set())
    assert (come.lease.seed == first.before, set(come.added)) == (False, {B})
    assert (leases.held(A), leases.held(B)) == (0, 1)


def test_a_lease_that_is_renewed_lives_on() -> None:
    leases = Leases()
    register(leases, A)

    assert leases.renew(ONE, HOST, 29.0) is leases.get("1")
    assert leases.expire(58.9) == []
    [gone] = leases.expire(59.0)
    assert set(gone.removed) == {A}
    assert (len(leases), leases.held(A)) == (0, 0)
    assert leases.renew(ONE, HOST, 59.0) is None


def test_who_moved_within_a_family_of_addresses_registers_anew() -> None:
    leases = Leases()
    register(leases, A)

    assert leases.renew(ONE, pack_host("10.0.0.2"), 1.0) is None
    assert leases.renew(ONE, pack_host("2001:db8::1"), 1.0) is not None


def test_an_id_is_taken_as_long_as_its_lease_lives() -> None:
    leases = Leases()
    register(leases, A)
    stranger = Publisher("1", b"stranger")

    with pytest.raises(IdTaken, match=r"'1'.*10\.0\.0\.1:5000, heard 12 s ago.*free in 18 s"):
        register(leases, node=stranger, now=12.0)
    with pytest.raises(IdTaken):
        leases.renew(stranger, HOST, 12.0)
    [gone, come], new = register(leases, B, node=stranger, now=30.0)
    assert (new, set(gone.removed), set(come.added)) == (True, {A}, {B})
    assert leases.holders(B) == {stranger}


def test_nodes_with_one_id_or_one_key_are_different_seeds() -> None:
    seeds = set()
    for node in (ONE, Publisher("1", b"two"), Publisher("2", b"one")):
        lease = Lease(node, HOST, 1, 0)
        seeds.add(lease.seed.identity)
        assert len(lease.seed.peer_id) == 20

    assert len(seeds) == 3


def test_leases_from_before_a_restart_are_doubtful_until_they_are_heard() -> None:
    leases = Leases()
    two = Publisher("2", b"two")
    kept = [Lease(ONE, HOST, 1, 7, frozenset({A, B})), Lease(two, HOST, 2, 7, frozenset({B}))]

    changes = leases.restore(kept, 100.0)
    before = [leases.doubtful(one) for one in (A, B, C)]
    leases.renew(ONE, HOST, 110.0)
    between = [leases.doubtful(one) for one in (A, B)]
    gone = leases.expire(160.0)

    assert [set(one.added) for one in changes] == [{A, B}, {B}]
    assert before == [True, True, False]
    assert between == [False, True]
    assert [one.lease.node for one in gone] == [ONE, two]
    assert not leases.doubtful(B)


def test_a_doubtful_node_that_registers_again_is_heard() -> None:
    leases = Leases()
    leases.restore([Lease(ONE, HOST, 5000, 7, frozenset({A, B}))], 0.0)

    [change], new = register(leases, B, C, now=1.0)

    assert (new, change.lease.confirmed, change.lease.since) == (False, True, 7)
    assert [leases.doubtful(one) for one in (A, B, C)] == [False] * 3


def test_there_are_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TORRENTS", 2)
    monkeypatch.setattr(module, "_MAX_HELD", 3)
    monkeypatch.setattr(module, "_MAX_NODES", 2)
    leases = Leases()
    register(leases, A, B)

    with pytest.raises(TooMany, match="2 torrents at most"):
        register(leases, A, B, C)
    with pytest.raises(TooMany, match="full"):
        register(leases, A, B, node=Publisher("2", b""))
    register(leases, A, node=Publisher("2", b""))
    register(leases, B, C)
    with pytest.raises(TooMany, match="full"):
        register(leases, node=Publisher("3", b""))


def test_leases_are_listed_by_number_then_by_name() -> None:
    leases = Leases()
    for name in ("share-b", "10", "2", "share-a"):
        register(leases, node=Publisher(name, b""))

    assert [one.node.node_id for one in leases] == ["2", "10", "share-a", "share-b"]


def test_whatever_happens_the_changes_add_up() -> None:
    rng = random.Random(1)
    leases = Leases()
    served: Counter[tuple[bytes, object]] = Counter()
    nodes = [Publisher(str(number), bytes([number])) for number in range(4)]
    for step in range(400):
        now = step * 3.0
        node = rng.choice(nodes)
        changes = leases.expire(now)
        match rng.randrange(4):
            case 0:
                gone = leases.unregister(node.node_id)
                changes += [gone] if gone else []
            case 1:
                leases.renew(node, HOST, now)
            case _:
                torrents = rng.sample([A, B, C], rng.randrange(4))
                port = rng.choice([5000, 6000])
                changes += register(leases, *torrents, node=node, port=port, now=now)[0]
        for change in changes:
            for one in change.removed:
                served[one, change.before] -= 1
            for one in change.added:
                served[one, change.lease.seed] += 1

        expected = Counter((one, lease.seed) for lease in leases for one in lease.torrents)
        assert +served == expected
        assert min(served.values(), default=0) >= 0
        for one in (A, B, C):
            assert leases.held(one) == sum(one in lease.torrents for lease in leases)

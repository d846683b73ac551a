"""The peer store: identity, counting, picking, expiry."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.geometry import TorrentId
from p2pfs.tracker.peer_store import Counts, MemoryPeerStore, PeerKind, SwarmPeer

TORRENT, OTHER = TorrentId(b"t" * 20), TorrentId(b"o" * 20)
DOWNLOADER, PARTIAL, SEED = PeerKind.DOWNLOADER, PeerKind.PARTIAL_SEED, PeerKind.SEED
LIFETIME = 100.0


@pytest.fixture
def store() -> MemoryPeerStore:
    return MemoryPeerStore(LIFETIME, rng=random.Random(7))


def peer(number: int, **changes: object) -> SwarmPeer:
    made = SwarmPeer(b"%020d" % number, b"key%d" % number, b"\x0a\0" + number.to_bytes(2), 6881)
    return made._replace(**changes)  # type: ignore[arg-type]


def packed(one: SwarmPeer) -> bytes:
    return one.host + one.port.to_bytes(2)


def enter(
    store: MemoryPeerStore,
    one: SwarmPeer,
    kind: PeerKind = DOWNLOADER,
    *,
    now: float = 0.0,
    numwant: int = 50,
    completed: bool = False,
    torrent: TorrentId = TORRENT,
) -> list[bytes]:
    found = store.announce(
        torrent, one, kind, now=now, numwant=numwant, completed=completed, with_ids=True
    )
    return [address for address, _ in found.listed]


def test_peers_of_one_torrent_are_handed_to_each_other(store: MemoryPeerStore) -> None:
    assert enter(store, peer(1)) == []
    assert enter(store, peer(2)) == [packed(peer(1))]
    assert enter(store, peer(1)) == [packed(peer(2))]


def test_torrents_are_kept_apart(store: MemoryPeerStore) -> None:
    enter(store, peer(1))

    assert enter(store, peer(2), torrent=OTHER) == []


def test_peer_ids_stand_beside_the_addresses(store: MemoryPeerStore) -> None:
    for number in range(30):
        enter(store, peer(number))

    found = store.announce(TORRENT, peer(99), DOWNLOADER, now=0, numwant=20, with_ids=True)

    expected = {packed(peer(number)): peer(number).peer_id for number in range(30)}
    assert len(found.listed) == 20
    assert all(expected[address] == peer_id for address, peer_id in found.listed)


def test_seeds_and_partial_seeds_are_handed_only_those_who_want_data(
    store: MemoryPeerStore,
) -> None:
    enter(store, peer(1), SEED)
    enter(store, peer(2), PARTIAL)
    enter(store, peer(3), DOWNLOADER)

    assert enter(store, peer(4), SEED) == [packed(peer(3))]
    assert enter(store, peer(5), PARTIAL) == [packed(peer(3))]
    assert len(enter(store, peer(3), DOWNLOADER)) == 4


def test_counts_tell_seeds_from_others_and_partial_seeds_from_downloaders(
    store: MemoryPeerStore,
) -> None:
    for number, kind in enumerate([SEED, SEED, PARTIAL, DOWNLOADER, DOWNLOADER, DOWNLOADER]):
        enter(store, peer(number), kind)

    assert store.counts(TORRENT) == Counts(complete=2, incomplete=4, downloaded=0, downloaders=3)
    assert store.counts(OTHER) is None


def test_a_finished_download_is_counted_once(store: MemoryPeerStore) -> None:
    enter(store, peer(1), DOWNLOADER)
    enter(store, peer(1), SEED, completed=True)
    enter(store, peer(1), SEED, completed=True)
    enter(store, peer(1), SEED)

    assert store.counts(TORRENT) == Counts(complete=1, downloaded=1)


def test_a_peer_without_a_port_is_answered_but_not_listed(store: MemoryPeerStore) -> None:
    enter(store, peer(1))

    assert enter(store, peer(2, port=0)) == [packed(peer(1))]
    assert enter(store, peer(1)) == []
    assert store.peer_count == 1
    assert enter(store, peer(3, port=0), torrent=OTHER) == []
    assert store.torrent_count == 1


def test_nobody_is_handed_its_own_address_even_under_an_older_identity(
    store: MemoryPeerStore,
) -> None:
    enter(store, peer(1))

    restarted = peer(1, peer_id=b"n" * 20, key=b"new")

    assert enter(store, restarted) == []
    assert enter(store, peer(2)) == [packed(peer(1))]  # one address once, though two rows


def test_a_new_address_with_the_key_replaces_the_old_one(store: MemoryPeerStore) -> None:
    enter(store, peer(1))
    moved = peer(1, host=b"\x0a\1\1\1")
    enter(store, moved)

    assert enter(store, peer(2)) == [packed(moved)]
    assert store.peer_count == 2


@pytest.mark.parametrize("key", [None, b"", b"guess", b"\x0a\0\0\1"])
def test_without_the_key_nobody_can_move_or_stop_a_peer(
    store: MemoryPeerStore, key: bytes | None
) -> None:
    enter(store, peer(1))
    thief = peer(1, host=b"\x0a\6\6\6", key=key)

    enter(store, thief)
    store.remove(TORRENT, thief)

    assert enter(store, peer(2)) == [packed(peer(1))]


def test_without_any_key_the_address_is_the_identity(store: MemoryPeerStore) -> None:
    enter(store, peer(1, key=None))
    thief = peer(1, key=peer(1).host)  # a key made to look like that address
    store.remove(TORRENT, thief)
    store.remove(TORRENT, peer(1, key=None, host=b"\x0a\6\6\6"))

    assert enter(store, peer(2)) == [packed(peer(1))]


def test_long_keys_tell_peers_apart_too(store: MemoryPeerStore) -> None:
    enter(store, peer(1, key=b"x" * 100 + b"1"))
    enter(store, peer(1, key=b"x" * 100 + b"2", host=b"\x0a\6\6\6"))

    assert store.peer_count == 2


def test_a_peer_with_both_families_is_one_peer_with_two_addresses(
    store: MemoryPeerStore,
) -> None:
    v4, v6 = peer(1), peer(1, host=b"\x20\1" + bytes(13) + b"\1")
    enter(store, v4)
    enter(store, v6)

    assert store.counts(TORRENT) == Counts(incomplete=1, downloaders=1)
    assert enter(store, peer(2)) == [packed(v4)]
    assert enter(store, peer(3, host=b"\x20\1" + bytes(13) + b"\3"))[0] == packed(v6)


def test_an_address_of_the_other_family_is_better_than_none(store: MemoryPeerStore) -> None:
    v6 = peer(1, host=b"\x20\1" + bytes(13) + b"\1")
    enter(store, v6)

    assert enter(store, peer(2)) == [packed(v6)]
    assert enter(store, v6) == [packed(peer(2))]


def test_a_stopped_peer_is_gone_and_an_unknown_one_does_no_harm(store: MemoryPeerStore) -> None:
    enter(store, peer(1))

    assert store.remove(TORRENT, peer(9)) == Counts(incomplete=1, downloaders=1)
    assert store.remove(OTHER, peer(9)) == Counts()
    assert store.remove(TORRENT, peer(1)) == Counts()
    assert store.peer_count == 0


@pytest.mark.parametrize(("numwant", "expected"), [(-5, 0), (0, 0), (1, 1), (30, 30), (500, 99)])
def test_as_many_are_handed_out_as_are_wanted_and_there(
    store: MemoryPeerStore, numwant: int, expected: int
) -> None:
    for number in range(99):
        enter(store, peer(number), numwant=0)

    found = enter(store, peer(100), numwant=numwant)

    assert len(set(found)) == len(found) == expected
    assert packed(peer(100)) not in found


@pytest.mark.parametrize("crowd", [12, 60, 90, 300])
def test_everybody_is_picked_about_equally_often(crowd: int) -> None:
    store = MemoryPeerStore(LIFETIME, rng=random.Random(3))
    for number in range(crowd):
        enter(store, peer(number), PeerKind(number % 3), numwant=0)
    asker = peer(5000)
    times: dict[bytes, int] = {}

    rounds = 400
    for _ in range(rounds):
        for one in enter(store, asker, numwant=10):
            times[one] = times.get(one, 0) + 1

    fair = rounds * 10 / crowd
    assert len(times) == crowd
    assert all(0.2 * fair < count < 2.5 * fair + 5 for count in times.values())


def test_silent_peers_expire_and_others_stay(store: MemoryPeerStore) -> None:
    enter(store, peer(1), now=0)
    enter(store, peer(2), SEED, now=50)
    enter(store, peer(3), now=60)

    assert store.expire(100.0, 1000) == 0
    assert store.expire(150.5, 1000) == 2
    assert enter(store, peer(4), now=150.5) == [packed(peer(3))]


def test_a_peer_that_announces_again_lives_on(store: MemoryPeerStore) -> None:
    enter(store, peer(1), now=0)
    enter(store, peer(1), now=90)

    assert store.expire(189, 1000) == 0
    assert store.expire(191, 1000) == 1


def test_expiry_looks_at_no_more_rows_than_it_may_and_gets_through_in_the_end(
    store: MemoryPeerStore,
) -> None:
    for number in range(1000):
        enter(store, peer(number), PeerKind(number % 3), now=0, numwant=0)
    for number in range(500):
        enter(store, peer(number), now=0, numwant=0, torrent=TorrentId(b"%020d" % number))

    calls = 0
    while store.peer_count:
        assert store.expire(500.0, 100) <= 100
        calls += 1
        assert calls < 40
    store.expire(500.0, 10_000)

    assert store.torrent_count == 0


def test_a_swarm_that_died_out_leaves_its_number_of_downloads(store: MemoryPeerStore) -> None:
    enter(store, peer(1), SEED, completed=True)
    enter(store, peer(1), SEED, torrent=OTHER)
    store.expire(1000, 1000)

    assert store.torrent_count == 0
    assert store.counts(TORRENT) == Counts(downloaded=1)
    assert store.counts(OTHER) is None
    enter(store, peer(2), now=1000)
    assert store.counts(TORRENT) == Counts(incomplete=1, downloaded=1, downloaders=1)


def test_a_full_store_answers_newcomers_without_listing_them() -> None:
    store = MemoryPeerStore(LIFETIME, max_peers=2)
    enter(store, peer(1))
    enter(store, peer(2))

    assert len(enter(store, peer(3))) == 2
    assert enter(store, peer(3), torrent=OTHER) == []
    assert enter(store, peer(1)) == [packed(peer(2))]
    assert (store.peer_count, store.torrent_count) == (2, 1)


def test_a_store_with_very_many_torrents_takes_no_new_one_but_goes_on_with_those_it_has() -> None:
    store = MemoryPeerStore(LIFETIME, max_torrents=1)
    enter(store, peer(1))

    assert enter(store, peer(2), torrent=OTHER) == []
    assert enter(store, peer(3), torrent=OTHER) == []
    assert enter(store, peer(2)) == [packed(peer(1))]
    assert (store.peer_count, store.torrent_count) == (2, 1)


def test_a_source_that_brings_very_many_peers_is_answered_without_listing_them() -> None:
    store = MemoryPeerStore(LIFETIME, max_new=2)
    honest = peer(500)
    enter(store, honest)
    fakes = [peer(number, host=b"\x09\x09\x09\x09", port=number) for number in range(1, 100)]

    for number, fake in enumerate(fakes):
        enter(store, fake, torrent=(TORRENT, OTHER)[number % 2])
    enter(store, fakes[0])  # those that are listed may go on

    assert store.peer_count == 3
    assert packed(honest) in enter(store, peer(501))
    enter(store, fakes[50], now=LIFETIME)
    assert store.peer_count == 5


def test_who_has_a_lease_may_bring_any_number() -> None:
    store = MemoryPeerStore(LIFETIME, max_new=1)

    for number in range(10):
        enter(store, peer(1, port=1), now=math.inf, torrent=TorrentId(bytes([number]) * 20))

    assert store.peer_count == 10


steps = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.sampled_from([DOWNLOADER, PARTIAL, SEED, None, "expire"]),
        st.booleans(),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(steps)
@settings(max_examples=60)
def test_the_store_agrees_with_a_plain_model(
    steps: list[tuple[int, PeerKind | str | None, bool, int]],
) -> None:
    store = MemoryPeerStore(LIFETIME, rng=random.Random(1))
    model: dict[int, tuple[PeerKind, float]] = {}
    now = 0.0
    for number, what, v6, wait in steps:
        now += wait
        one = peer(number, host=bytes(14) + b"\7" + bytes([number])) if v6 else peer(number)
        if what == "expire":
            store.expire(now, 1000)
            model = {key: value for key, value in model.items() if value[1] >= now - LIFETIME}
        elif what is None:
            store.remove(TORRENT, one)
            model.pop(number, None)
        else:
            assert isinstance(what, PeerKind)
            model[number] = (what, now)
            found = enter(store, one, what, now=now)
            others = [
                key
                for key, (kind, _) in model.items()
                if key != number and (what is DOWNLOADER or kind is DOWNLOADER)
            ]
            assert len(found) == len(others)
        kinds = [kind for kind, _ in model.values()]
        counts = store.counts(TORRENT) or Counts()
        assert counts.complete == kinds.count(SEED)
        assert counts.downloaders == kinds.count(DOWNLOADER)
        assert counts.complete + counts.incomplete == len(model) == store.peer_count


def test_who_is_listed_as_what_it_is_goes_on_by_a_short_way() -> None:
    stores = [MemoryPeerStore(LIFETIME, rng=random.Random(1)) for _ in range(2)]
    for store in stores:
        for number in range(200):
            enter(store, peer(number), PeerKind(number % 3))
    one, moved = peer(0), peer(0, host=b"\x0a\1\1\1")

    found = stores[0].renew(
        TORRENT.v1, one.identity, DOWNLOADER, moved.address, now=50.0, numwant=50
    )

    announced = stores[1].announce(TORRENT, moved, DOWNLOADER, now=50.0, numwant=50)
    assert found == (announced.counts, announced.peers, announced.peers6)
    assert enter(stores[0], peer(777), numwant=500) == enter(stores[1], peer(777), numwant=500)
    assert stores[0].expire(LIFETIME + 1, 1000) == stores[1].expire(LIFETIME + 1, 1000) == 200


@pytest.mark.parametrize(
    ("torrent", "number", "kind"),
    [(OTHER, 1, DOWNLOADER), (TORRENT, 2, DOWNLOADER), (TORRENT, 1, SEED), (TORRENT, 1, PARTIAL)],
    ids=["another torrent", "another peer", "now a seed", "now a partial seed"],
)
def test_for_whoever_is_not_the_short_way_does_nothing(
    store: MemoryPeerStore, torrent: TorrentId, number: int, kind: PeerKind
) -> None:
    enter(store, peer(1), now=0.0)
    one = peer(number)

    found = store.renew(torrent.v1, one.identity, kind, one.address, now=90.0, numwant=50)

    assert found is None
    assert (store.peer_count, store.torrent_count) == (1, 1)
    assert store.expire(LIFETIME + 1, 10) == 1


# -- swarms with content, and what changed


def test_a_peer_entered_for_ever_is_never_silent() -> None:
    store = MemoryPeerStore(LIFETIME)
    enter(store, peer(1), SEED, now=math.inf)
    enter(store, peer(2), SEED, now=0.0)

    assert store.expire(1e12, 100) == 1
    assert store.counts(TORRENT) == Counts(1, 0, 0, 0)


def test_swarms_with_content_are_those_with_a_seed_or_a_partial_seed() -> None:
    store = MemoryPeerStore(LIFETIME)
    seen = []
    for kind in (DOWNLOADER, PARTIAL, SEED, DOWNLOADER):
        enter(store, peer(1), kind)
        seen.append(TORRENT.v1 in store.with_content)
    enter(store, peer(1), SEED)
    seen.append(TORRENT.v1 in store.with_content)
    store.expire(LIFETIME + 1, 100)
    seen.append(TORRENT.v1 in store.with_content)

    assert seen == [False, True, True, False, True, False]
    assert store.content_changes == 4


def test_what_changed_is_told_once() -> None:
    store = MemoryPeerStore(LIFETIME)
    told = []
    enter(store, peer(1), DOWNLOADER)
    told.append(store.take_changed())
    enter(store, peer(1), DOWNLOADER, now=5.0)
    told.append(store.take_changed())
    enter(store, peer(1), SEED, now=5.0, completed=True)
    told.append(store.take_changed())
    store.expire(1000.0, 100)
    told.append(store.take_changed())

    assert told == [{TORRENT.v1}, set(), {TORRENT.v1}, {TORRENT.v1}]


def test_finished_downloads_go_on_being_counted_from_what_is_restored() -> None:
    store = MemoryPeerStore(LIFETIME)
    store.restore(TORRENT, 41)
    enter(store, peer(1), SEED, completed=True)

    assert store.counts(TORRENT) == Counts(1, 0, 42, 0)

"""What is known of who has what: swarms, nodes, and the time before a restart."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from p2pfs.formats.endpoint import pack_host
from p2pfs.tracker.catalogue import Catalogue
from p2pfs.tracker.last_known import LastKnown, Saving
from p2pfs.tracker.peer_store import Counts, MemoryPeerStore, PeerKind, SwarmPeer
from p2pfs.tracker.presence import Presence
from p2pfs.tracker.rights import Publisher
from tests.support.metainfo import described

LIFETIME = 660.0
ONE, TWO = Publisher("1", b"one"), Publisher("2", b"two")
HOST = pack_host("10.0.0.1")
A, B = described("a"), described("b")
SEED, PARTIAL, LEECH = PeerKind.SEED, PeerKind.PARTIAL_SEED, PeerKind.DOWNLOADER


class Index:
    """The state of an index, and what it does from its start on."""

    def __init__(self, path: Path | None, now: float = 0.0) -> None:
        self.catalogue = Catalogue(path)
        self.store = MemoryPeerStore(LIFETIME, rng=random.Random(1))
        known = LastKnown(self.catalogue.database, LIFETIME, now) if path else None
        self.presence = Presence(self.store, self.catalogue.__contains__, known, now)

    def publish(self, *contents: object) -> None:
        for one in contents:
            entry, _ = self.catalogue.publish(one.to_bytes(), 1)  # type: ignore[attr-defined]
            self.presence.published(entry.torrent_id)

    def announce(
        self, number: int, kind: PeerKind, now: float = 0.0, *, completed: bool = False
    ) -> None:
        peer = SwarmPeer(b"%020d" % number, b"k", pack_host(f"10.0.1.{number}"), 1)
        self.store.announce(A.torrent_id, peer, kind, now=now, numwant=0, completed=completed)

    def register(self, node: Publisher = ONE, *contents: object, now: float = 0.0) -> None:
        torrents = [one.torrent_id.v1 for one in contents]  # type: ignore[attr-defined]
        self.presence.register(node, HOST, 5000, torrents, now=now, since=7)
        while self.presence.work(1):
            pass

    def expire(self, now: float) -> None:
        self.store.expire(now, 1000)
        self.presence.expire(now)
        while self.presence.work(1):
            pass

    def save(self) -> Saving:
        saving = Saving()
        while self.presence.collect(saving, 1):
            pass
        self.presence.save(saving)
        return saving

    def shown(self) -> tuple[int, int, int, bool, bool]:
        """Seeders, leechers, downloads, whether `a` is live and whether that is unconfirmed."""
        counts, live, unconfirmed = self.presence.standing(A.torrent_id)
        listed = bool(self.presence.live_among(self.catalogue.matching("a")))
        assert listed == live
        return counts.complete, counts.incomplete, counts.downloaded, live, unconfirmed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.sqlite"


def test_what_somebody_has_is_live_and_what_people_only_want_is_not() -> None:
    index = Index(None)
    index.publish(A)

    assert index.shown() == (0, 0, 0, False, False)
    index.announce(1, LEECH)
    assert index.shown() == (0, 1, 0, False, False)
    index.announce(2, PARTIAL)
    assert index.shown() == (0, 2, 0, True, False)
    index.announce(1, SEED, completed=True)
    assert index.shown() == (1, 1, 1, True, False)


def test_a_node_is_a_seed_for_as_long_as_it_is_heard() -> None:
    index = Index(None)
    index.publish(A)
    index.register(ONE, A, now=1000.0)
    index.announce(1, SEED, now=1000.0)

    assert index.shown() == (2, 0, 0, True, False)
    index.presence.leases.renew(ONE, HOST, 1020.0)
    index.presence.leases.renew(ONE, HOST, 1040.0)
    index.store.expire(10_000.0, 1000)
    assert index.shown() == (1, 0, 0, True, False)
    index.expire(1070.0)
    assert index.shown() == (0, 0, 0, False, False)


def test_changes_of_leases_reach_the_swarms_in_their_order_and_in_small_steps() -> None:
    index = Index(None)
    index.publish(A, B)
    presence = index.presence
    torrents = [A.torrent_id.v1, B.torrent_id.v1]
    presence.register(ONE, HOST, 5000, torrents, now=0.0, since=7)
    assert presence.work(1)
    presence.unregister("1")
    presence.register(TWO, HOST, 5001, [A.torrent_id.v1], now=0.0, since=7)

    steps = 0
    while presence.work(1):
        steps += 1

    assert steps >= 3
    assert index.store.counts(A.torrent_id) == Counts(1, 0, 0, 0)
    assert index.store.counts(B.torrent_id) == Counts(0, 0, 0, 0)
    assert index.store.peer_count == 1


def test_what_was_known_is_shown_unconfirmed_until_as_many_were_heard(path: Path) -> None:
    first = Index(path)
    first.publish(A)
    first.announce(1, SEED)
    first.announce(2, SEED, completed=True)
    first.announce(3, LEECH)
    first.save()

    second = Index(path)
    assert second.shown() == (2, 1, 1, True, True)
    second.announce(1, SEED)
    assert second.shown() == (2, 1, 1, True, True)
    second.announce(3, SEED, completed=True)  # it finished meanwhile
    assert second.shown() == (2, 1, 2, True, True)
    second.announce(2, SEED)
    assert second.shown() == (3, 0, 2, True, False)
    second.announce(4, LEECH)
    assert second.shown() == (3, 1, 2, True, False)


def test_what_nobody_confirms_is_gone_after_the_lifetime_of_a_swarm(path: Path) -> None:
    first = Index(path)
    first.publish(A)
    first.announce(1, SEED, completed=True)
    first.save()

    second = Index(path, now=5000.0)
    second.expire(5659.0)
    assert second.shown() == (1, 0, 1, True, True)
    second.expire(5660.0)
    assert second.shown() == (0, 0, 1, False, False)
    second.save()

    assert Index(path).shown() == (0, 0, 1, False, False)


def test_what_is_unconfirmed_survives_a_second_restart(path: Path) -> None:
    first = Index(path)
    first.publish(A)
    first.announce(1, SEED)
    first.announce(2, SEED)
    first.save()
    second = Index(path)
    second.announce(1, SEED)
    second.save()

    assert Index(path).shown() == (2, 0, 0, True, True)


def test_nodes_are_seeds_again_right_after_a_restart(path: Path) -> None:
    first = Index(path)
    first.publish(A)
    first.register(ONE, A)
    first.register(TWO, A)
    first.announce(1, SEED)
    first.save()

    second = Index(path, now=100.0)
    assert second.shown() == (3, 0, 0, True, True)
    assert second.store.counts(A.torrent_id) == Counts(2, 0, 0, 0)
    second.announce(1, SEED, now=100.0)
    assert second.shown() == (3, 0, 0, True, True)
    second.presence.leases.renew(ONE, HOST, 110.0)
    second.presence.leases.renew(TWO, HOST, 110.0)
    assert second.shown() == (3, 0, 0, True, False)


def test_a_node_that_does_not_come_back_is_gone_within_a_minute(path: Path) -> None:
    first = Index(path)
    first.publish(A)
    first.register(ONE, A)
    first.save()

    second = Index(path, now=100.0)
    second.expire(159.0)
    assert second.shown() == (1, 0, 0, True, True)
    second.expire(160.0)
    assert second.shown() == (0, 0, 0, False, False)
    second.save()
    assert len(Index(path).presence.leases) == 0


def test_only_what_changed_is_saved(path: Path) -> None:
    index = Index(path)
    index.publish(A, B)
    index.announce(1, SEED)
    index.register(ONE, A)

    saving = index.save()
    assert (list(saving.counts), list(saving.leases)) == ([A.torrent_id.v1], ["1"])
    assert saving.counts[A.torrent_id.v1] == Counts(1, 0, 0, 0)
    index.announce(1, SEED)
    index.presence.leases.renew(ONE, HOST, 1.0)
    index.register(ONE, A, now=2.0)
    assert not index.save().counts
    index.presence.unregister("1")
    assert index.save().leases == {"1": None}
    assert not index.save()


def test_what_could_not_be_saved_is_saved_the_next_time(path: Path) -> None:
    index = Index(path)
    index.publish(A)
    index.announce(1, SEED)
    index.register(ONE, A)
    lost = Saving()
    while index.presence.collect(lost, 1):
        pass
    assert lost

    index.presence.not_saved(lost)

    assert index.save() == lost


def test_swarms_of_what_is_not_in_the_catalogue_are_not_kept(path: Path) -> None:
    index = Index(path)
    index.announce(1, SEED)
    assert not index.save()
    index.publish(A)
    assert list(index.save().counts) == [A.torrent_id.v1]
    index.catalogue.withdraw(A.torrent_id, ONE)

    assert Index(path).shown() == (0, 0, 0, False, False)


def test_without_a_database_nothing_is_kept() -> None:
    index = Index(None)
    index.publish(A)
    index.announce(1, SEED)

    assert not index.save()

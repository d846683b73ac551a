"""Pages of the list, with and without what nobody has."""

from __future__ import annotations

import random

import pytest

from p2pfs.formats.endpoint import pack_host
from p2pfs.tracker.catalogue import Catalogue
from p2pfs.tracker.listing import Listing, Page
from p2pfs.tracker.peer_store import MemoryPeerStore, PeerKind, SwarmPeer
from p2pfs.tracker.presence import Presence
from tests.support.metainfo import described


class Shared:
    def __init__(self, *names: str) -> None:
        self.catalogue = Catalogue()
        self.store = MemoryPeerStore(660, rng=random.Random(1))
        presence = Presence(self.store, self.catalogue.__contains__, None, 0.0)
        self.listing = Listing(self.catalogue, presence)
        for name in names:
            self.catalogue.publish(described(name).to_bytes(), 1)

    def seed(self, name: str) -> None:
        peer = SwarmPeer(b"p" * 20, b"k", pack_host("10.0.0.1"), 1)
        self.store.announce(described(name).torrent_id, peer, PeerKind.SEED, now=0.0, numwant=0)

    def page(
        self,
        pattern: str | None = None,
        *,
        everything: bool = False,
        offset: int = 0,
        limit: int = 9,
    ) -> tuple[list[str], int]:
        found: Page = self.listing.page(pattern, everything=everything, offset=offset, limit=limit)
        return [one.name for one in found.entries], found.total


def test_only_what_somebody_has_is_listed_unless_everything_is_wanted() -> None:
    shared = Shared("a1", "a2", "b1")
    shared.seed("a2")

    assert shared.page() == (["a2"], 1)
    assert shared.page(everything=True) == (["a1", "a2", "b1"], 3)
    assert shared.page("a*") == (["a2"], 1)
    assert shared.page("b") == ([], 0)


@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [(0, 2, "ab"), (1, 2, "bc"), (2, 9, "c"), (3, 9, ""), (0, 0, "")],
)
def test_a_page_has_its_part_and_the_total(offset: int, limit: int, expected: str) -> None:
    shared = Shared(*"abcd")
    for name in "abc":
        shared.seed(name)

    assert shared.page(offset=offset, limit=limit) == (list(expected), 3)


def test_a_page_shows_every_change_before_it() -> None:
    shared = Shared("a")
    assert shared.page() == ([], 0)
    shared.seed("a")
    assert shared.page() == (["a"], 1)
    shared.catalogue.publish(described("b").to_bytes(), 1)
    shared.seed("b")
    assert shared.page() == (["a", "b"], 2)
    shared.store.expire(10_000.0, 100)
    assert shared.page() == ([], 0)


def test_the_pages_of_one_list_are_cut_from_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared(*"abcd")
    for name in "abcd":
        shared.seed(name)
    passes = []
    matching = shared.catalogue.matching

    def counted(pattern: str | None = None) -> object:
        passes.append(pattern)
        return matching(pattern)

    monkeypatch.setattr(shared.catalogue, "matching", counted)

    for offset in range(4):
        shared.page(offset=offset, limit=1)

    assert passes == [None]
